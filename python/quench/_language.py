"""Text from language models."""

import numpy as np

from . import _quench
from ._model import Error, Model

Tokenizer = _quench.Tokenizer
