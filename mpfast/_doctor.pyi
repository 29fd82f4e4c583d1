from collections.abc import Mapping, Sequence
from dataclasses import dataclass

@dataclass(frozen=True)
class Feature:
    name: str
    native: bool
    why: str = ""
    mend: str = ""

@dataclass(frozen=True)
class Report:
    native: bool
    why: str
    mend: str
    versions: Mapping[str, str]
    features: tuple[Feature, ...]

def examine() -> Report: ...
def main(arguments: Sequence[str]) -> int: ...
