"""The prompts of a list as `Wan GGUF Prompt` reads them: cleaned, with weights that it takes, and not empty.

Apart from `prompt_list`, because other encoders read other weights, and because cleaning needs more than Python alone.
"""

from collections.abc import Collection, Iterable, Iterator

from .clean import clean_prompt
from .prompt_list import PromptListError, Row
from .weights import parse_weights

PROMPT_COLUMNS = ("prompt", "negative")


def check_prompts(rows: Iterable[Row], columns: Collection[str] = PROMPT_COLUMNS) -> None:
    """Refuse a list unless `Wan GGUF Prompt` takes these columns of every row.

    Raises PromptListError naming line and column of every weight that is out of range or no number, and of every prompt
    of which cleaning leaves nothing. What a row leaves out is not checked.
    """
    problems = [problem for row in rows for problem in _problems(row, columns)]
    if problems:
        raise PromptListError(problems)


def _problems(row: Row, columns: Collection[str]) -> Iterator[str]:
    for column in PROMPT_COLUMNS:
        text = getattr(row, column)
        if column not in columns or text is None:
            continue
        try:
            spans = parse_weights(clean_prompt(text))
        except ValueError as error:
            yield f"line {row.line}, column {column}: {error}"
        else:
            if column == "prompt" and not any(span.text.strip() for span in spans):
                yield f"line {row.line}, column prompt: is empty; every row needs a prompt"
