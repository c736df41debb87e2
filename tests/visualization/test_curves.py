import json

import cv2
import numpy as np
import pytest

from mmmaskfree.visualization import plot_curves
from mmmaskfree.visualization.curves import read_scalars, run_names


def _log(path, scale=1.0, steps=range(10, 310, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for step in steps:
        entry = {'lr': 1e-3, 'loss': scale / step, 'loss_cls': 0.5 * scale / step}
        entry |= {'d0.loss_cls': 1.0, 'aux_loss_cls': 2.0, 'grad_norm': 1.0}
        entry |= {'time': 0.1, 'data_time': 0.0, 'memory': 5, 'iter': step}
        lines.append(json.dumps(entry | {'step': step}))
        if step % 100 == 0:
            score = {'youtube_vis/segm_mAP': step / 10, 'time': 0.1, 'step': step}
            lines.append(json.dumps(score))
    path.write_text('\n'.join(lines) + '\n')
    return path


def test_scalars_are_read_with_their_steps(tmp_path):
    scalars = read_scalars(_log(tmp_path / 'scalars.json'))
    assert not {'time', 'memory', 'step', 'iter'} & set(scalars)
    steps, values = scalars['youtube_vis/segm_mAP']
    np.testing.assert_array_equal(steps, [100, 200, 300])
    np.testing.assert_array_equal(values, [10, 20, 30])
    np.testing.assert_allclose(scalars['loss'][1], 1 / np.arange(10, 310, 10))


def test_a_step_that_was_run_twice_counts_once(tmp_path):
    path = tmp_path / 'scalars.json'
    path.write_text('{"loss": 1, "step": 1}\n{"loss": 2, "step": 1}\n')
    assert [v.tolist() for v in read_scalars(path)['loss']] == [[1], [2]]


def test_panels_of_two_runs(tmp_path):
    logs = [_log(tmp_path / f'{run}/1/vis_data/scalars.json') for run in 'ab']
    out = tmp_path / 'new/curves.png'
    shown = plot_curves(logs, out)
    assert shown == ['loss', 'loss_cls', 'grad_norm', 'lr', 'youtube_vis/segm_mAP']
    picture = cv2.imread(str(out))
    assert min(picture.shape[:2]) > 300
    # both runs' colours are in it: #0072b2 and #d55e00, as BGR
    for color in [(0xB2, 0x72, 0x00), (0x00, 0x5E, 0xD5)]:
        assert (picture == color).all(-1).any()


def test_panels_have_one_axis_of_iterations(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(
        Figure, 'savefig', lambda figure, *args: figures.append(figure) or None
    )
    path = tmp_path / 'scalars.json'
    lines = [{'loss': 1 / step, 'step': step} for step in range(10, 101, 10)]
    lines += [{'a/score': 0.6258, 'step': 100}]
    path.write_text('\n'.join(map(json.dumps, lines)))
    plot_curves([path], tmp_path / 'a.png')
    loss, score = figures[0].axes[:2]
    assert loss.get_xlim() == score.get_xlim()
    assert score.get_xlim()[0] < 10 and score.get_xlim()[1] > 100
    # one point is told by its value
    assert [text.get_text() for text in score.texts] == ['0.626']
    assert not loss.texts


def test_keys_choose_panels(tmp_path):
    log = _log(tmp_path / 'scalars.json')
    shown = plot_curves([log], tmp_path / 'a.png', keys=['d0.*', '*/segm_mAP'])
    assert shown == ['d0.loss_cls', 'youtube_vis/segm_mAP']
    with pytest.raises(ValueError, match=r"No scalar fits \['none'\].*loss_cls"):
        plot_curves([log], tmp_path / 'a.png', keys=['none'])


def test_a_score_that_is_nan_does_not_stop_it(tmp_path):
    path = tmp_path / 'scalars.json'
    path.write_text('{"a/b": NaN, "step": 1}\n{"a/b": 2, "step": 2}\n')
    assert plot_curves([path], tmp_path / 'a.png') == ['a/b']


def test_run_names_tell_runs_apart():
    paths = [f'w/run_{r}/2024/vis_data/scalars.json' for r in (1, 2)]
    assert run_names(paths) == ['run_1', 'run_2']
    paths = ['w/run/1/vis_data/scalars.json', 'w/run/2/vis_data/scalars.json']
    assert run_names(paths) == ['1', '2']


def test_bad_logs_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.json'):
        plot_curves([tmp_path / 'none.json'], tmp_path / 'a.png')
    bad = tmp_path / 'bad.json'
    bad.write_text('{"loss": 1, "step": 1}\nnot json\n')
    with pytest.raises(ValueError, match=r'bad\.json, line 2'):
        plot_curves([bad], tmp_path / 'a.png')
    bad.write_text('')
    with pytest.raises(ValueError, match='holds no scalars'):
        plot_curves([bad], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='At least one'):
        plot_curves([], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='2 names for 1'):
        plot_curves([_log(bad)], tmp_path / 'a.png', names=['a', 'b'])
