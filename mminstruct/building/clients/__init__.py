"""What answers a builder's questions, one file each."""

from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.clients.batch import BatchClient, BatchConfig
from mminstruct.building.clients.local import LocalClient
from mminstruct.building.clients.openai_compatible import OpenAICompatibleClient
from mminstruct.building.clients.replay import ReplayClient
from mminstruct.building.clients.template import TemplateClient

__all__ = [
    "BatchClient",
    "BatchConfig",
    "Call",
    "LanguageModelClient",
    "LocalClient",
    "OpenAICompatibleClient",
    "ReplayClient",
    "TemplateClient",
]
