"""Chat templates: how turns become one prompt, and which of its tokens are supervised."""

from mminstruct.chat_template.encode import IGNORE, IMAGE, EncodedPrompt, Loss, Piece, Supervision, encode
from mminstruct.chat_template.named import NAMES, get
from mminstruct.chat_template.template import ChatTemplate, TemplateConfig

__all__ = [
    "IGNORE",
    "IMAGE",
    "NAMES",
    "ChatTemplate",
    "EncodedPrompt",
    "Loss",
    "Piece",
    "Supervision",
    "TemplateConfig",
    "encode",
    "get",
]
