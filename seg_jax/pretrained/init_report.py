"""What an initialisation from other weights did, layer by layer."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class InitReport:
    """What was done with every layer of the network that starts.

    Attributes:
      headline: source and counts.
      layers: (name, what was done) of every layer, "loaded", "copied", or what else.
      notes: further lines: adapted norms, differences from the network of the weights.
    """

    headline: str
    layers: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def taken(self) -> set[str]:
        """The layers whose numbers are the source's."""
        return {name for name, how in self.layers if how.startswith(_TAKEN)}

    @property
    def complete(self) -> bool:
        """Whether every layer came from the source."""
        return len(self.taken) == len(self.layers)

    def exceptions(self) -> list[str]:
        """Return what a user should see: the headline, the layers that were not taken as they are,
        and the notes.
        """
        unusual = [item for item in self.layers if item[1] not in ("loaded", "copied")]
        return [self.headline, *_aligned(unusual), *(f"  {note}" for note in self.notes)]

    def lines(self) -> list[str]:
        """Return everything, one line a layer."""
        return [self.headline, *_aligned(self.layers), *(f"  {note}" for note in self.notes)]


_TAKEN = ("loaded", "adapted", "copied")


def _aligned(layers) -> list[str]:
    width = max((len(name) for name, _ in layers), default=0)
    return [f"  {name:<{width}}  {how}" for name, how in layers]
