"""What a user asks of motion, on codes alone: which regions follow a driver, how far eyes and mouth open, edits.

:class:`.chain.Chain` is all of it in its order.  Whatever moves a photograph reads codes off a driver, hands them to a
chain, and shows what comes out.
"""
