"""Cross-identity pairs for MEF: a portrait to learn, and an exemplar that shows its expression on another person.

Read off the portrait itself, an expression brings its person along, and an adapter learns to take both.  EmojiDiff's
ID-irrelevant data iteration (WACV 2026) changes the person first: a Base adapter, trained on portraits alone, or
something else that keeps expressions, draws the exemplars on which a Refined one is trained.  Its filter is not public,
so this is our reading: :mod:`.makers` make candidates, :mod:`.judge` keeps those whose expression has stayed and whose
person has changed, :mod:`.pairs` writes them as a folder of portraits that ``train_mef.py`` learns from.
"""
