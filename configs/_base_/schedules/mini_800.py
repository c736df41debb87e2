# Shorter: two-stage models have no queries to tell apart.
_base_ = './mini.py'

max_iters = 800

param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
