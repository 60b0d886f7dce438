"""Pictures of results as small Vega-Lite specifications: every number in them is one of the result's.

One module a question: `posteriors` (what do we believe), `lifts` (how far apart, and in which segments),
`course` (how did it come to this), `power` (how many units). `theme` knows colours, `words` titles and units,
`files` writes. Altair loads when the first picture is drawn.
"""

from engine.pictures.files import save_picture
from engine.pictures.kinds import KINDS, picture
from engine.pictures.theme import THEMES

__all__ = ["KINDS", "THEMES", "picture", "save_picture"]
