# The mask branch alone, on a tracker that stays as it is: that of
# qdtrack_faster-rcnn_r50_fpn_8xb2-12e_bdd100k-mot.
_base_ = './maskfree-qdtrack_mask-rcnn_r50_fpn_8xb2-12e_bdd100k-mots.py'

load_from = 'work_dirs/qdtrack_faster-rcnn_r50_fpn_8xb2-12e_bdd100k-mot/epoch_12.pth'

model = dict(freeze='all_but_mask')
