"""MaskTrack R-CNN's tracker, with one object for each id."""

from mmdet.models.trackers import MaskTrackRCNNTracker
from torch import Tensor

from mmmaskfree.registry import MODELS


@MODELS.register_module()
class UniqueIdMaskTrackRCNNTracker(MaskTrackRCNNTracker):
    """mmdet's tracker, but the objects of a frame differ in their ids.

    Where several objects of a frame look like the same track, mmdet lets a later one
    with a better score take the track over, and leaves the earlier one its id too. An
    evaluation, which asks for one mask per track and frame, then takes either or fails.
    Here the one with the best score keeps the track; the others are dropped, as mmdet
    drops those that come later with a lower score.
    """

    def assign_ids(self, match_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Tracks of the objects of a frame.

        Args:
            match_scores: (N, 1 + M) float, of N objects with "new" and with M tracks.

        Returns:
            ids (N,) long, -1 for an object to drop, each other id once; and the best
            scores (M,) of the tracks.
        """
        ids, best_scores = super().assign_ids(match_scores)
        claims = ids.tolist()
        for index, claim in enumerate(claims):
            # Only for a better score does a later one get the same track.
            if claim in claims[index + 1 :]:
                ids[index] = -1
        return ids, best_scores
