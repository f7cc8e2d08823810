"""Puppets: photographs that move.  A photograph, its 68 landmarks and a matte; the face world's head is its skeleton.

found = fit_photographs(landmarks)                         # all photographs in one batch
puppets = make_puppets(photos, mattes, found)              # once per photograph
drawn = render(puppets, draw_states(puppets.size, seed=0), size=256)
drawn.image, drawn.flow, drawn.valid, drawn.landmarks      # the flow leads back into the photographs
"""
