"""The common interface of training data: packs and data sets on disk."""

from collections.abc import Iterator, Sequence

from mtdeblur.data.disk.decode import Entry
from mtdeblur.data.disk.pairs import Ladder


class TrainingData:
    """Pictures for training and validation; kinds that a source does not contain are empty.

    Attributes:
        photos: sharp photographs, for simulated exposures.
        clips: runs of consecutive frames of a high-speed camera, at least 13 each.
        pairs: (blurred, sharp).
        ladders: exposures stored with their levels.
        valid_photos: photographs held out.
        valid_pairs: (blurred, sharp) held out.
    """

    photos: Sequence[Entry] = ()
    clips: Sequence[Sequence[Entry]] = ()
    pairs: Sequence[tuple[Entry, Entry]] = ()
    ladders: Sequence[Ladder] = ()
    valid_photos: Sequence[Entry] = ()
    valid_pairs: Sequence[tuple[Entry, Entry]] = ()

    def close(self) -> None:
        """Close what is open on disk."""

    def pictures(self) -> Iterator[Entry]:
        """Every picture to train on."""
        yield from self.photos
        yield from (frame for clip in self.clips for frame in clip)
        yield from (picture for pair in self.pairs for picture in pair)
        yield from (ladder.path(level) for ladder in self.ladders for level in ladder.folders)

    def without_levels(self) -> tuple[int, int]:
        """Number of real exposures without levels between input and TL1, and number of all real exposures.

        On the former, TL1 is the goal of all iterations, regardless of the approach.
        """
        without = sum(len(ladder.goals(max(ladder.folders))) == 1 for ladder in self.ladders)
        return without + len(self.pairs), len(self.ladders) + len(self.pairs)
