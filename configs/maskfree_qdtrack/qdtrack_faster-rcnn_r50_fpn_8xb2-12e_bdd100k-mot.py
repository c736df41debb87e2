# QDTrack without masks: the tracker that `..._bdd100k-mots_frozen` gives masks to.
# The metric needs masks, so this one is not scored.
_base_ = './maskfree-qdtrack_mask-rcnn_r50_fpn_8xb2-12e_bdd100k-mots.py'

model = dict(
    detector=dict(
        type='FasterRCNN',
        roi_head=dict(type='StandardRoIHead', mask_roi_extractor=None, mask_head=None),
    )
)

val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = None
test_evaluator = None
test_cfg = None
