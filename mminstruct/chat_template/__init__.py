"""Chat templates: how turns become one prompt, and which of its tokens are supervised."""

from mminstruct.chat_template.encode import IGNORE, IMAGE, EncodedPrompt, Piece, encode
from mminstruct.chat_template.named import NAMES, get
from mminstruct.chat_template.template import ChatTemplate, TemplateConfig

__all__ = ["IGNORE", "IMAGE", "NAMES", "ChatTemplate", "EncodedPrompt", "Piece", "TemplateConfig", "encode", "get"]
