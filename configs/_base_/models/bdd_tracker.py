# QDTrack's thresholds for BDD100K, in every model that tracks by its embedding.
bdd_tracker = dict(
    type='mmmaskfree.QuasiDenseMaskTracker',
    preset='mots',
    init_score_thr=0.7,
    obj_score_thr=0.3,
    match_score_thr=0.5,
    memo_tracklet_frames=10,
    memo_backdrop_frames=1,
    memo_momentum=0.8,
    nms_conf_thr=0.5,
    nms_backdrop_iou_thr=0.3,
    nms_class_iou_thr=0.7,
    with_cats=True,
    match_metric='bisoftmax',
)
