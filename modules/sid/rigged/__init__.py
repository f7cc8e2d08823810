"""SID on the points of a face: read, moved as a head and a face move, and shown at any size.

Coordinates are half frames from the middle of the frame: -1 and 1 are its edges, whatever its size in pixels (and
``grid_sample`` takes ``align_corners=False``).  Only what is handed to the rest of SID counts from pixel centres.
"""
