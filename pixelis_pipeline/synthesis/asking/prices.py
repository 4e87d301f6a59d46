"""What tokens cost, by the provider's price list in settings. A model without a price costs an unknown
amount, never nothing."""

import re

from pixelis_pipeline.settings import Price, SettingsError, TeacherSettings

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def price_of(settings: TeacherSettings) -> Price | None:
    """The price of the model that settings name, None where they state none."""
    return settings.prices.get(settings.model)


def dollars(prompt: int | float, completion: int | float, price: Price, batch: bool = False) -> float:
    """US dollars for so many tokens; `batch`: through the provider's batch API, at its share of the price."""
    share = price.batch if batch else 1.0
    return (prompt * price.prompt + completion * price.completion) * share / 1e6


def unpriced(model: str) -> str:
    """What is said where dollars of `model` are unknown."""
    key = model if _BARE.fullmatch(model) else f'"{model}"'
    return f"no price for {model}: set teacher.prices.{key}"


def require_price(settings: TeacherSettings) -> None:
    """SettingsError where a budget is set and nothing says what a token costs. Nothing may be sent then."""
    if settings.max_cost and price_of(settings) is None:
        raise SettingsError(f"teacher.max_cost is {settings.max_cost:g}, but {unpriced(settings.model)}")
