custom_imports = dict(imports=['toy'], allow_failed_imports=False)
default_scope = 'mmdet'
model = dict(type='mmengine.ToyLine')
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(type='mmengine.ToyPoints'),
    sampler=dict(type='InfiniteSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(type='mmengine.ToyPoints'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)
test_evaluator = dict(type='mmengine.ToySum')
test_cfg = dict(type='TestLoop')
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
    logger=dict(type='LoggerHook', interval=1),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl'))
auto_scale_lr = dict(enable=False, base_batch_size=8)
