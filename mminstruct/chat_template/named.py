"""The named templates: rows of strings, as the original projects use them.

Facts: `llava/conversation.py` (vicuna_v1, llama_2, mpt, plain) of haotian-liu/LLaVA; ChatML as OpenAI and Qwen write
it; `phi_template.py` of TinyLLaVA_Factory (phi_2; Bunny's is the same); `PurePromptBuilder` of prismatic-vlms (in_out);
`blip2_opt.py` and `blip2_vicuna_instruct.py` of LAVIS (question_answer; instructblip: the bare instruction, the image
in front of everything); the Jinja templates that Llama 3, Gemma, Phi-3 and Mistral v0.3 are published with (llama_3,
gemma, phi_3, mistral), without some's dates and tools; idefics: `docs/source/en/tasks/idefics.md` and
`processing_idefics.py` of huggingface/transformers; open_flamingo: README.md and `open_flamingo/train/data.py` of
mlfoundations/open_flamingo; otter: the demos of Luodian/Otter (`pipeline/mimicit_utils/mimicit_dataset.py`
there writes no space behind `User:` and `<answer>`).
"""

from __future__ import annotations

from typing import Any

from mminstruct.chat_template.jinja import TokenizerTemplate
from mminstruct.chat_template.template import ChatTemplate, PlainTemplate, Rounds, RoundsTemplate, TemplateConfig
from mminstruct.errors import ConfigError, did_you_mean

ROUNDS = {
    "vicuna_v1": Rounds(
        system=(
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions."
        ),
        system_format="{} ",
        user_format="USER: {} ",
        later_user_format="USER: {} ",
        assistant_prompt="ASSISTANT:",
        assistant_lead=" ",
        end="</s>",
    ),
    "llama_2": Rounds(
        system=(
            "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being "
            "safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or "
            "illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\n"
            "If a question does not make any sense, or is not factually coherent, explain why instead of answering "
            "something not correct. If you don't know the answer to a question, please don't share false information."
        ),
        system_place="first_user",
        system_format="<<SYS>>\n{}\n<</SYS>>\n\n",
        user_format="[INST] {} [/INST]",
        later_user_format="<s>[INST] {} [/INST]",
        assistant_prompt="",
        assistant_lead=" ",
        answer_tail=" ",
        end="</s>",
    ),
    "chatml": Rounds(
        system_format="<|im_start|>system\n{}<|im_end|>\n",
        user_format="<|im_start|>user\n{}<|im_end|>\n",
        later_user_format="<|im_start|>user\n{}<|im_end|>\n",
        assistant_prompt="<|im_start|>assistant\n",
        end="<|im_end|>",
        after_end="\n",
        alternate=False,
    ),
    "llama_3": Rounds(
        system_format="<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
        user_format="<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
        later_user_format="<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
        assistant_prompt="<|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
        alternate=False,
    ),
    # It has no place for a system text; its makers advise the first user turn.
    "gemma": Rounds(
        system_place="first_user",
        system_format="{}\n\n",
        user_format="<start_of_turn>user\n{}<end_of_turn>\n",
        later_user_format="<start_of_turn>user\n{}<end_of_turn>\n",
        assistant_prompt="<start_of_turn>model\n",
        end="<end_of_turn>",
        after_end="\n",
    ),
    "phi_3": Rounds(
        system_format="<|system|>\n{}<|end|>\n",
        user_format="<|user|>\n{}<|end|>\n",
        later_user_format="<|user|>\n{}<|end|>\n",
        assistant_prompt="<|assistant|>\n",
        end="<|end|>",
        after_end="\n",
    ),
    "mistral": Rounds(
        system_place="first_user",
        system_format="{}\n\n",
        user_format="[INST] {}[/INST]",
        later_user_format="[INST] {}[/INST]",
        assistant_prompt="",
        assistant_lead=" ",
        end="</s>",
    ),
    # ChatML with nothing between the turns.
    "mpt": Rounds(
        system=(
            "A conversation between a user and an LLM-based AI assistant. "
            "The assistant gives helpful and honest answers."
        ),
        system_format="<|im_start|>system\n{}<|im_end|>",
        user_format="<|im_start|>user\n{}<|im_end|>",
        later_user_format="<|im_start|>user\n{}<|im_end|>",
        assistant_prompt="<|im_start|>assistant\n",
        end="<|im_end|>",
    ),
    "in_out": Rounds(
        user_format="In: {}\n",
        later_user_format="In: {}\n",
        assistant_prompt="Out:",
        assistant_lead=" ",
        end="</s>",
    ),
    "question_answer": Rounds(
        user_format="Question: {} ",
        later_user_format="Question: {} ",
        assistant_prompt="Answer:",
        assistant_lead=" ",
        end="\n",
    ),
    "instructblip": Rounds(
        user_format="{}",
        later_user_format="{}",
        assistant_prompt="",
        assistant_lead=" ",
        end="</s>",
        start_behind_images=True,
    ),
    "idefics": Rounds(
        user_format="User:{}<end_of_utterance>\n",
        later_user_format="User:{}<end_of_utterance>\n",
        user_text_lead=" ",
        image_format="<fake_token_around_image>{}<fake_token_around_image>",
        assistant_prompt="Assistant:",
        assistant_lead=" ",
        end="<end_of_utterance>",
        after_end="\n",
    ),
    # Examples one behind the other, each `<image>text<|endofchunk|>`; what is asked is part of the text.
    "open_flamingo": Rounds(
        user_format="{}",
        later_user_format="{}",
        assistant_prompt="",
        end="<|endofchunk|>",
    ),
    "otter": Rounds(
        user_format="User: {} GPT:<answer>",
        later_user_format="User: {} GPT:<answer>",
        leading_images_first=True,
        assistant_prompt="",
        assistant_lead=" ",
        end="<|endofchunk|>",
    ),
}

ROUNDS["phi_2"] = ROUNDS["vicuna_v1"].model_copy(update={"end": "<|endoftext|>"})

NAMES = sorted([*ROUNDS, "plain", "tokenizer"])


def get(config: TemplateConfig | str, tokenizer: Any) -> ChatTemplate:
    """The template that a name or a `TemplateConfig` describes.

    Args:
        tokenizer: the tokenizer it will be used with; only `tokenizer` (its own Jinja template) needs it.

    Raises:
        ConfigError: an unknown name, or `tokenizer` for a tokenizer that has no template.
    """
    if isinstance(config, str):
        config = TemplateConfig(name=config)
    if config.name in ROUNDS:
        return RoundsTemplate(config, ROUNDS[config.name])
    if config.name == "plain":
        return PlainTemplate(config)
    if config.name == "tokenizer":
        return TokenizerTemplate(config, tokenizer)
    raise ConfigError(f"no chat template is called {config.name!r}.{did_you_mean(config.name, NAMES)}")
