"""Mistakes that names and options alone show are told before anything heavy is imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PERSON = ROOT / "Inputs/Identities/person-3.png"
HEAVY = "{'torch', 'diffusers', 'transformers', 'scipy', 'onnxruntime', 'skimage'}"
NO_VIDEO = "is not a video that can be read"
NO_PICTURE = "is not a picture that can be read"
# command line, with files of the folder `given`; what is said
INFERENCE = {
    "source": ("--source_image none.png", "none.png: no such file"),
    "source that is none": ("--source_image text.png", NO_PICTURE),
    "source video": ("--source_video none.mp4", "none.mp4: no such file"),
    "driver": ("--driving_video none.mp4", "none.mp4: no such file"),
    "driver that is none": ("--driving_video text.mp4", NO_VIDEO),
    "driver that is a folder": ("--driving_video folder", "is a folder, not a file"),
    "reference": ("--reference_image none.png", "none.png: no such file"),
    "pose": ("--pose_video none.mp4", "none.mp4: no such file"),
    "template": ("--driving_video none.motion", "none.motion: no such file"),
    "template's name": ("--save_motion kept.mp4", "has to end in .motion"),
    "configuration": ("--config none.yaml --checkpoint text.png", "none.yaml: cannot read the configuration"),
    "configuration alone": ("--config {root}/config/rigged.yaml", "--checkpoint is needed as well"),
    "checkpoint": ("--config {root}/config/rigged.yaml --checkpoint none.pth", "none.pth: no such checkpoint file"),
    "checkpoint alone": ("--checkpoint none.pth", "none.pth: no such checkpoint file"),
    "web page": ("--config {root}/config/rigged.yaml --checkpoint page.pth", "a web page, not a checkpoint"),
    "Git LFS": ("--config {root}/config/rigged.yaml --checkpoint lfs.pth", "a Git LFS pointer"),
    "ONNX": ("--onnx none", "none: has no config.yaml"),
    "result": ("--result_video result.png", "cannot write a video of type '.png'"),
    "slider": ("--edit nosy=1", "no slider is called 'nosy'; did you mean nose"),
    "slider of the mesh": ("--motion mesh --edit nosy=1", "no slider is called 'nosy'"),
    "strength": ("--strength -1", "expected a number of 0 or more"),
    "mesh without crop": ("--motion mesh --no-crop", "--no-crop: --motion mesh looks for the face"),
    "detector": ("--detector face-alignment", "--detector is of configurations without framing_params"),
    "framing": ("--no-crop --face left", "--face needs a configuration with framing_params"),
    "expression": ("--expression joyy", "did you mean joy"),
    "source of an expression": ("--expression joy --source_image none.png", "none.png: no such file"),
    "bank": ("--expression joy --expression_bank none", "--expression_bank none: no such folder"),
    "table": ("--batch none.csv --out out", "none.csv: cannot be read"),
    "folder of a batch": ("--batch folder --out out", "no such folder; a table has the columns"),
    "portrait's source": ("--prompt man --source_image none.png", "none.png: no such file"),
    "portrait's source that is none": ("--prompt man --source_image text.png", NO_PICTURE),
    "portrait's reference": ("--prompt man --reference_image none.png", "none.png: no such file"),
    "portrait's driver": ("--prompt man --driving_video text.mp4", NO_VIDEO),
    "base": ("--prompt man --source_image {person} --base none.safetensors", "none.safetensors: no such file"),
    "base in a folder": ("--prompt man --source_image {person} --base ./none", "no such base"),
    "adapters": ("--prompt man --source_image {person} --checkpoint ./none", "no such folder of adapters"),
    "portrait's steps": ("--prompt man --source_image {person} --steps 0", "--steps: expected 1 or more"),
    "portrait's web page": ("--prompt man --source_image {person} --checkpoint page.pth", "a web page"),
    "expression adapter": ("--prompt man --expression_adapter none", "not a folder of DeepExpr adapters"),
    "face recognition": (
        "--prompt man --source_image {person} --face_recognition none.onnx",
        "--face_recognition is of a FaceID file",
    ),
    "target": ("--target_image none.png --source_image {person}", "none.png: no such file"),
    "target that is none": ("--target_image text.png --source_image {person}", NO_PICTURE),
    "target's reference": ("--target_image {person} --reference_image none.png", "none.png: no such file"),
    "target's adapters": ("--target_image {person} --source_image {person} --checkpoint ./none", "no such folder of"),
}
OTHERS = {
    "run's configuration": ("run.py --config none.yaml", "none.yaml: cannot read the configuration"),
    "run's checkpoint": ("run.py --config {root}/config/sid-128.yaml --checkpoint none.pth", "no such checkpoint"),
    "run's checkpoint to measure": (
        "run.py --config {root}/config/vox-256.yaml --mode reconstruction --checkpoint none.pth",
        "none.pth: no such checkpoint file",
    ),
    "run's real faces": (
        "run.py --config {root}/config/vox-256.yaml --mode compare-real --checkpoint text.png --real_faces none",
        "none: no such folder",
    ),
    "run's configuration to measure": (
        "run.py --config none.yaml --mode reconstruction --checkpoint text.png",
        "none.yaml: cannot read the configuration",
    ),
    "run's checkpoint to evaluate": (
        "run.py --config {root}/config/synthetic-128-adv.yaml --mode evaluate --checkpoint none.pth",
        "none.pth: no such checkpoint file",
    ),
    "run without one": ("run.py --config {root}/config/vox-256.yaml --mode animate", "needs --checkpoint"),
    "SID's configuration": ("train_sid.py --config none.yaml", "none.yaml: cannot read the configuration"),
    "SID's stage": ("train_sid.py --config {root}/config/mef-sd15.yaml", "configures MEF, not SID"),
    "SID's checkpoint": (
        "train_sid.py --config {root}/config/sid-128.yaml --checkpoint none.pth",
        "no such checkpoint",
    ),
    "SID's run": ("train_sid.py --config {root}/config/sid-128.yaml --resume none.pth", "none.pth: no such checkpoint"),
    "two beginnings": (
        "train_sid.py --config {root}/config/sid-128.yaml --resume auto --checkpoint none.pth",
        "--checkpoint and --resume both name a run",
    ),
    "finetuning": ("train_sid.py --config {root}/config/sid-128.yaml --finetune", "--finetune needs the --checkpoint"),
    "MEF's configuration": ("train_mef.py --config none.yaml", "none.yaml: cannot read the configuration"),
    "MEF's checkpoint": ("train_mef.py --config {root}/config/mef-sd15.yaml --checkpoint none", "no such checkpoint"),
    "video to crop": ("crop-video.py --inp none.mp4", "none.mp4: no such file"),
    "video to crop that is none": ("crop-video.py --inp text.mp4", NO_VIDEO),
    "photograph to crop": ("crop-video.py --inp {person}", "photographs are cut out by landmarks"),
    "photograph to crop that is none": ("crop-video.py --inp none.png --size 2 --out out", "none.png: no such file"),
    "crop's configuration": ("crop-video.py --inp {person} --config none.yaml", "cannot read the configuration"),
    "live source": ("modules.live --source none.png", "none.png: no such file"),
    "live source that is none": ("modules.live --source text.png", NO_PICTURE),
    "live video": ("modules.live --source {person} --video none.mp4", "none.mp4: no such file"),
    "live configuration": ("modules.live --source {person} --config none.yaml --checkpoint x", "cannot read the conf"),
    "live checkpoint": (
        "modules.live --source {person} --config {root}/config/rigged.yaml --checkpoint none.pth",
        "none.pth: no such checkpoint file",
    ),
}
CASES = {name: (f"Inference.py {words}", said) for name, (words, said) in INFERENCE.items()} | OTHERS


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    for name in ("text.png", "text.mp4"):
        shutil.copy(ROOT / "README.md", folder / name)
    (folder / "page.pth").write_text("<!DOCTYPE html><title>Not found</title>\n")
    (folder / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(("command", "said"), CASES.values(), ids=CASES.keys())
def test_a_mistake_of_names_or_options_is_told_before_heavy_imports(given, command, said):
    script, *words = (word.format(root=ROOT, person=PERSON) for word in command.split())
    start = f"run_path({str(ROOT / script)!r}" if script.endswith(".py") else f"run_module({script!r}"
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['x', *{words!r}]\n"
        f"try: runpy.{start}, run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    before = sorted(given.iterdir())
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=given, timeout=100)
    assert said in result.stderr, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stdout.splitlines() == ["[]"]
    assert sorted(given.iterdir()) == before


def test_a_web_page_and_a_git_lfs_pointer_are_told_by_every_reader_of_checkpoints_alike(given):
    from modules.errors import UserError
    from modules.training.checkpoint import load_checkpoint
    from modules.training.checkpoint_file import check_file

    for name in ("page.pth", "lfs.pth", "none.pth", "folder"):
        said = []
        for read in (check_file, load_checkpoint):
            with pytest.raises(UserError) as told:
                read(given / name)
            said.append(str(told.value))
        assert said[0] == said[1]
