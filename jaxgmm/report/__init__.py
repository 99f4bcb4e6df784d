"""What a model says of itself: text for a terminal, an HTML page, a Markdown card, and plain dictionaries."""

from jaxgmm.report._card import card as card
from jaxgmm.report._html import html_page as html_page
from jaxgmm.report._text import (
    MAX_COMPONENTS as MAX_COMPONENTS,
    MAX_DIAGNOSES as MAX_DIAGNOSES,
    MAX_FEATURES as MAX_FEATURES,
    clip as clip,
    summary_dict as summary_dict,
    summary_text as summary_text,
    sweep_text as sweep_text,
)
