"""The data contract: every key that passes between two parts of the package.

Shape legend: ``B`` clips in a batch, ``T`` frames in a clip, ``N`` objects in a
frame, ``G`` tracks of the whole batch, ``Q`` queries, ``L`` decoder outputs,
``H, W`` padded input pixels, ``h, w`` mask cells (``H / mask_stride``).

Data set -> transforms (one dict per video, mmdet's layout)
    ``video_id``        int, unique in the file
    ``video_length``    int, number of frames
    ``images``          list of ``video_length`` dicts, one per frame:
        ``img_id`` int, unique in the file; ``img_path`` str; ``file_name`` str;
        ``height``, ``width`` int px; ``frame_id`` int from 0; ``video_id`` int;
        ``instances``   list of dicts, one per object that is visible:
            ``bbox``         [x1, y1, x2, y2] float px, inside the image, area > 0
            ``bbox_label``   int in 0..num_classes-1
            ``instance_id``  int >= 1, unique over the file: names the track
            ``ignore_flag``  0, or 1 for a crowd
            ``mask``         compressed RLE {'size': [h, w], 'counts': bytes};
                             only in test mode or with ``load_masks=True``
    ``dataset.metainfo['ground_truth']``
        'masks', 'boxes' or 'none': what the annotation file offers for evaluation

Transforms -> data preprocessor (``PackTrackInputs``)
    ``inputs``          (T, 3, H, W) uint8 BGR
    ``data_samples``    ``TrackDataSample`` of T ``DetDataSample``; each has
        ``gt_instances.bboxes (N, 4)`` xyxy px, ``.labels (N,)`` long,
        ``.instances_ids (N,)``; ``.masks`` only for a supervised twin;
        metainfo ``img_shape`` (h, w) px without padding, ``ori_shape``,
        ``frame_id``, ``video_id``, ``instances`` (the frame's, as above)

Data preprocessor -> head (set on every ``TrackDataSample``)
    ``inputs``          (B, T, 3, H, W) float32, normalised
    ``lab``             (T, 3, h, w) float32 CIE Lab, L in 0..100
    ``valid``           (T, h, w) bool, False where a cell touches padding

Head -> metric (on every ``DetDataSample``)
    ``pred_track_instances``: ``masks (K, h, w)`` bool at ``ori_shape``,
        ``bboxes (K, 4)`` xyxy px, ``labels (K,)``, ``scores (K,)`` in 0..1,
        ``instances_id (K,)``: the same id is the same track in every frame
"""
