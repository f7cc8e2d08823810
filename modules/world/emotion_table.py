"""135 emotion words, and what faces do with them: the tree of Shaver et al. (1987) and a table of action units.

The tree (words, groups, six families) is that of P. Shaver, J. Schwartz, D. Kirson and C. O'Connor, *Emotion
knowledge*, J. Personality and Social Psychology 52, 1987: how people sort words.  What a face does is nowhere written
down for all of them, so it is reasoned, in two steps:

1. A group has a prototype, in the units of FACS.  The basic expressions are those of EMFACS (Ekman and Friesen): joy
   6 + 12, sadness 1 + 4 + 15 (+ 17), surprise 1 + 2 + 5 + 26, fear 1 + 2 + 4 + 5 + 20 + 25, anger 4 + 5 + 7 + 23,
   disgust 9 + 10, contempt 12 + 14 on one side.  Groups between them take what studies of them found, named below.
2. A word has a strength, by its place in its group (annoyance is less than anger, fury more), and what sets it apart
   from the others of the group: an open mouth of a laugh, closed lids of bliss, bared teeth of ferocity.

No claim is made that people who feel these things look like this: faces vary more than words do (Barrett et al. 2019).
``spread`` says by how much, as a share of the strength.
"""

from __future__ import annotations

from .emotion_words import Group
from .emotion_words import word as _is

_CONTEMPT = {"AU12": 0.4, "AU14": 0.9}

# Affection shows as a smile with raised cheeks, lips mostly closed (Gonzaga et al. 2001); compassion lifts the inner
# brows as well (Goetz et al. 2010).  Desire parts the lips (Gonzaga et al. 2006) beneath half-closed lids.
_LOVE = (
    Group(
        *("love", "affection", "happiness", 0.15),
        {"AU1": 0.15, "AU6": 0.75, "AU12": 0.9, "AU25": 0.35, "AU43": 0.15},
        {
            "adoration": _is(1.0, AU1=0.15, AU25=0.2),
            "affection": _is(0.85),
            "love": _is(0.95, AU25=0.1),
            "fondness": _is(0.8),
            "liking": _is(0.7, AU43=-0.1),
            "attraction": _is(0.8, AU2=0.2, AU5=0.1, AU43=-0.1),
            "caring": _is(0.8, AU1=0.15),
            "tenderness": _is(0.8, AU1=0.15, AU25=-0.1, AU43=0.1),
            "compassion": _is(0.8, AU1=0.35, AU4=0.15, AU25=-0.1),
            "sentimentality": _is(0.75, AU1=0.3, AU17=0.1, AU43=0.1),
        },
    ),
    Group(
        *("love", "lust", "happiness", 0.2),
        {"AU6": 0.5, "AU12": 0.75, "AU25": 0.55, "AU26": 0.1, "AU43": 0.3},
        {
            "arousal": _is(0.8, AU25=0.1),
            "desire": _is(0.85),
            "lust": _is(0.9, AU43=0.1, AU26=0.1),
            "passion": _is(1.0, AU4=0.15, AU26=0.05),
            "infatuation": _is(0.95, AU1=0.25, AU2=0.15, AU43=-0.2),
        },
    ),
    Group(
        *("love", "longing", "happiness", 0.2),
        {"AU1": 0.5, "AU6": 0.5, "AU12": 0.65, "AU25": 0.25, "AU43": 0.2},
        {"longing": _is(0.9)},
    ),
)

# Zest adds the raised brows and lids of interest.  Pride smiles little, the chin pushed up (Tracy and Robins 2004);
# triumph bares the teeth beneath a lowered brow (Matsumoto and Hwang 2012).  Awe lifts the inner brows and opens the
# mouth (Shiota et al. 2003).  Pleasure and relief close the lids.
_JOY = (
    Group(
        *("joy", "cheerfulness", "happiness", 0.12),
        {"AU6": 0.8, "AU12": 1.0, "AU25": 0.7},
        {
            "amusement": _is(0.85, AU26=0.25),
            "bliss": _is(0.8, AU25=-0.3, AU43=0.4),
            "cheerfulness": _is(0.8),
            "gaiety": _is(0.85, AU26=0.1),
            "glee": _is(0.95, AU2=0.15, AU26=0.2),
            "jolliness": _is(0.85, AU26=0.15),
            "joviality": _is(0.8, AU26=0.1),
            "joy": _is(0.95),
            "delight": _is(0.9, AU1=0.15, AU2=0.2, AU5=0.15),
            "enjoyment": _is(0.75, AU25=-0.1),
            "gladness": _is(0.7, AU25=-0.15),
            "happiness": _is(0.9),
            "jubilation": _is(1.0, AU26=0.25),
            "elation": _is(0.95, AU2=0.15, AU26=0.15),
            "satisfaction": _is(0.65, AU25=-0.4),
            "ecstasy": _is(1.0, AU26=0.25, AU43=0.5),
            "euphoria": _is(1.0, AU1=0.1, AU26=0.2, AU43=0.25),
        },
    ),
    Group(
        *("joy", "zest", "happiness", 0.15),
        {"AU1": 0.2, "AU2": 0.3, "AU5": 0.25, "AU6": 0.65, "AU12": 0.95, "AU25": 0.7, "AU26": 0.2},
        {
            "enthusiasm": _is(0.9),
            "zeal": _is(0.85, AU4=0.15, AU5=0.1),
            "zest": _is(0.85),
            "excitement": _is(1.0, AU26=0.1),
            "thrill": _is(1.0, AU5=0.15, AU26=0.2),
            "exhilaration": _is(1.0, AU2=0.1, AU26=0.25),
        },
    ),
    Group(
        *("joy", "contentment", "happiness", 0.12),
        {"AU6": 0.7, "AU12": 0.9, "AU25": 0.3, "AU43": 0.1},
        {"contentment": _is(0.8, AU25=-0.15), "pleasure": _is(0.95, AU25=0.15, AU43=0.25)},
    ),
    Group(
        *("joy", "pride", "happiness", 0.15),
        {"AU6": 0.55, "AU12": 0.9, "AU17": 0.2, "AU25": 0.3},
        {
            "pride": _is(0.85, AU25=-0.15),
            "triumph": _is(1.0, AU4=0.2, AU6=0.2, AU17=-0.2, AU25=0.5, AU26=0.35),
        },
    ),
    Group(
        *("joy", "optimism", "happiness", 0.15),
        {"AU1": 0.3, "AU2": 0.25, "AU6": 0.6, "AU12": 0.85, "AU25": 0.45},
        {"eagerness": _is(0.95, AU5=0.25, AU25=0.15), "hope": _is(0.8, AU1=0.15), "optimism": _is(0.85)},
    ),
    Group(
        *("joy", "enthrallment", "happiness", 0.2),
        {"AU1": 0.3, "AU2": 0.25, "AU5": 0.2, "AU6": 0.55, "AU12": 0.85, "AU25": 0.7, "AU26": 0.25},
        {"enthrallment": _is(0.9), "rapture": _is(1.0, AU5=-0.2, AU43=0.5)},
    ),
    Group(
        *("joy", "relief", "happiness", 0.2),
        {"AU6": 0.5, "AU12": 0.8, "AU25": 0.6, "AU26": 0.15, "AU43": 0.4},
        {"relief": _is(0.9)},
    ),
)

_SURPRISE = (
    Group(
        *("surprise", "surprise", "surprise", 0.12),
        {"AU1": 0.9, "AU2": 1.0, "AU5": 0.8, "AU25": 0.6, "AU26": 0.8},
        {
            "amazement": _is(0.95, AU12=0.15),
            "surprise": _is(0.85),
            "astonishment": _is(1.0, AU5=0.15, AU26=0.2),
        },
    ),
)

# Irritation is anger that is held back, exasperation shows it with pressed lips.  Bitterness and resentment have the
# corners of sadness.  Contempt and scorn are on one side; loathing is half disgust.  Torment is near pain, whose core
# is 4, 7, 10 and closing lids (Prkachin and Solomon 2008).
_ANGER = (
    Group(
        *("anger", "irritation", "anger", 0.15),
        {"AU4": 0.9, "AU5": 0.15, "AU7": 0.7, "AU17": 0.2, "AU23": 0.75},
        {
            "aggravation": _is(0.95),
            "irritation": _is(0.8),
            "agitation": _is(0.9, AU5=0.25, AU20=0.15),
            "annoyance": _is(0.7, AU14=0.1),
            "grouchiness": _is(0.85, AU15=0.2, AU17=0.15),
            "grumpiness": _is(0.85, AU15=0.25, AU17=0.25),
        },
    ),
    Group(
        *("anger", "exasperation", "anger", 0.15),
        {"AU4": 0.9, "AU7": 0.65, "AU14": 0.2, "AU17": 0.35, "AU23": 0.75},
        {"exasperation": _is(0.95, AU43=0.25), "frustration": _is(0.95, AU15=0.15)},
    ),
    Group(
        *("anger", "rage", "anger", 0.15),
        {"AU4": 1.0, "AU5": 0.4, "AU7": 0.8, "AU17": 0.3, "AU23": 0.9},
        {
            "anger": _is(0.85),
            "rage": _is(1.0, AU5=0.3, AU10=0.3, AU23=-0.1, AU25=0.4),
            "outrage": _is(1.0, AU5=0.35, AU25=0.25),
            "fury": _is(1.0, AU5=0.2, AU10=0.25, AU25=0.25),
            "wrath": _is(1.0, AU10=0.15),
            "hostility": _is(0.85, AU14=0.15),
            "ferocity": _is(1.0, AU9=0.2, AU10=0.3, AU23=-0.1, AU25=0.45),
            "bitterness": _is(0.85, AU5=-0.2, AU14=0.15, AU15=0.3),
            "hate": _is(0.95, AU10=0.2),
            "loathing": _is(0.95, {"AU4": 0.8, "AU7": 0.7, "AU9": 0.9, "AU10": 0.7, "AU17": 0.4}, "disgust"),
            "scorn": _is(0.95, _CONTEMPT | {"AU4": 0.25, "AU7": 0.3}, "contempt", uneven=0.45),
            "spite": _is(0.85, uneven=0.4, AU14=0.25),
            "vengefulness": _is(0.9, AU5=0.1, AU14=0.15),
            "dislike": _is(0.8, AU9=0.15, AU10=0.15, AU5=-0.2),
            "resentment": _is(0.8, AU5=-0.2, AU14=0.1, AU15=0.2),
        },
    ),
    Group(
        *("anger", "disgust", "disgust", 0.15),
        {"AU4": 0.5, "AU7": 0.5, "AU9": 1.0, "AU10": 0.7, "AU17": 0.4},
        {
            "disgust": _is(0.9),
            "revulsion": _is(1.0, AU10=0.2, AU15=0.2, AU25=0.25),
            "contempt": _is(1.0, _CONTEMPT, "contempt", uneven=0.45),
        },
    ),
    Group(
        *("anger", "envy", "anger", 0.2),
        {"AU4": 0.95, "AU7": 0.7, "AU14": 0.25, "AU15": 0.15, "AU23": 0.75},
        {"envy": _is(0.85), "jealousy": _is(0.95, AU5=0.15, AU17=0.15)},
        uneven=0.3,
    ),
    Group(
        *("anger", "torment", "anger", 0.2),
        {"AU4": 1.0, "AU7": 0.9, "AU10": 0.25, "AU17": 0.3, "AU23": 0.8, "AU43": 0.3},
        {"torment": _is(1.0)},
    ),
)

# Suffering adds what pain shows.  Shame looks down, and so do embarrassment, which also holds back a smile (Keltner
# 1995), and humiliation.  Sympathy has oblique brows (Eisenberg et al. 1989).
_SADNESS = (
    Group(
        *("sadness", "suffering", "sadness", 0.15),
        {"AU1": 0.9, "AU4": 0.75, "AU7": 0.25, "AU15": 0.9, "AU17": 0.5, "AU43": 0.2},
        {
            "agony": _is(1.0, AU7=0.3, AU10=0.15, AU25=0.15, AU43=0.35),
            "suffering": _is(0.95),
            "hurt": _is(0.85, AU43=-0.15),
            "anguish": _is(1.0, AU20=0.15, AU25=0.15),
        },
    ),
    Group(
        *("sadness", "sadness", "sadness", 0.15),
        {"AU1": 0.9, "AU4": 0.6, "AU15": 0.9, "AU17": 0.5},
        {
            "depression": _is(0.8, AU43=0.25),
            "despair": _is(1.0, AU25=0.15),
            "hopelessness": _is(0.9, AU43=0.2),
            "gloom": _is(0.75),
            "glumness": _is(0.7, AU17=0.2),
            "sadness": _is(0.9),
            "unhappiness": _is(0.75),
            "grief": _is(1.0, AU4=0.15, AU25=0.15, AU43=0.2),
            "sorrow": _is(0.95),
            "woe": _is(0.9, AU4=0.1),
            "misery": _is(1.0, AU4=0.15),
            "melancholy": _is(0.65, AU43=0.15),
        },
        down=5.0,
    ),
    Group(
        *("sadness", "disappointment", "sadness", 0.15),
        {"AU1": 0.7, "AU4": 0.55, "AU15": 0.95, "AU17": 0.6, "AU14": 0.1},
        {
            "dismay": _is(0.9, AU1=0.15, AU5=0.15, AU25=0.15),
            "disappointment": _is(0.85),
            "displeasure": _is(0.8, AU1=-0.1, AU4=0.15),
        },
    ),
    Group(
        *("sadness", "shame", "sadness", 0.2),
        {"AU1": 0.8, "AU4": 0.5, "AU15": 0.9, "AU17": 0.5, "AU43": 0.25},
        {
            "guilt": _is(0.85, AU4=0.1),
            "shame": _is(0.95, AU43=0.1, down=18.0),
            "regret": _is(0.8, AU14=0.1),
            "remorse": _is(0.9, AU4=0.15),
        },
        down=12.0,
    ),
    Group(
        *("sadness", "neglect", "sadness", 0.2),
        {"AU1": 0.9, "AU4": 0.5, "AU15": 0.85, "AU17": 0.4, "AU43": 0.1},
        {
            "alienation": _is(0.75),
            "isolation": _is(0.8),
            "neglect": _is(0.8),
            "loneliness": _is(0.9),
            "rejection": _is(0.9, AU17=0.15),
            "homesickness": _is(0.8),
            "defeat": _is(0.9, AU43=0.15),
            "dejection": _is(0.95, AU43=0.1),
            "insecurity": _is(0.8, AU20=0.15),
            "embarrassment": _is(0.8, AU12=0.2, AU14=0.15, down=15.0),
            "humiliation": _is(0.95, AU43=0.2, down=15.0),
            "insult": _is(0.85, AU4=0.25, AU7=0.2),
        },
        down=5.0,
    ),
    Group(
        *("sadness", "sympathy", "sadness", 0.2),
        {"AU1": 0.95, "AU4": 0.5, "AU15": 0.75, "AU17": 0.45},
        {"pity": _is(0.85), "sympathy": _is(0.8)},
    ),
)

# Shock is near surprise.  Nervousness is fear that is held back; what tells it from surprise are the lowered, drawn-in
# brows and the stretched lips.
_FEAR = (
    Group(
        *("fear", "horror", "fear", 0.15),
        {"AU1": 0.9, "AU2": 0.5, "AU4": 0.6, "AU5": 0.9, "AU20": 0.8, "AU25": 0.7, "AU26": 0.2},
        {
            "alarm": _is(0.8),
            "shock": _is(0.95, AU2=0.1, AU26=0.15),
            "fear": _is(0.9),
            "fright": _is(0.9, AU2=0.1),
            "horror": _is(1.0, AU10=0.1, AU26=0.1),
            "terror": _is(1.0, AU20=0.15, AU26=0.1),
            "panic": _is(1.0, AU4=0.1, AU26=0.1),
            "hysteria": _is(1.0, AU20=0.15, AU26=0.2),
            "mortification": _is(0.8, AU5=-0.1, down=8.0),
        },
    ),
    Group(
        *("fear", "nervousness", "fear", 0.2),
        {"AU1": 0.85, "AU2": 0.4, "AU4": 0.6, "AU5": 0.75, "AU20": 0.8, "AU25": 0.5, "AU26": 0.1},
        {
            "anxiety": _is(0.85),
            "nervousness": _is(0.8),
            "tenseness": _is(0.8, AU7=0.15, AU23=0.1),
            "uneasiness": _is(0.7),
            "apprehension": _is(0.75),
            "worry": _is(0.8, AU4=0.15),
            "distress": _is(0.95, AU4=0.15, AU15=0.1),
            "dread": _is(1.0, AU5=0.1),
        },
    ),
)

GROUPS: tuple[Group, ...] = (*_LOVE, *_JOY, *_SURPRISE, *_ANGER, *_SADNESS, *_FEAR)
