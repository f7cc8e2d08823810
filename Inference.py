"""Animate a photograph: the person of --source_image with the expression and pose of a video or a picture."""

from __future__ import annotations

import argparse

from modules.errors import UserError, run_script


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--config", help="YAML file the checkpoint was trained with")
    add("--checkpoint", help="weights: ours or FOMM's (.pth.tar, .pth, .safetensors)")
    add("--source_image", help="picture of the person")
    add("--driving_video", help="video (-> result.mp4) or picture (-> result.png) of the expression and pose")
    add("--reference_image", "--Reference_image", help="driving picture; with --driving_video both results are written")
    add("--result_video", default="result.mp4", help=".mp4, .mov, .mkv, .webm or .gif (result.mp4)")
    add("--result_image", default="result.png", help=".png or .jpg (result.png)")
    add("--motion", choices=["embedding", "keypoints"], help="our motion head (default with encoders) or FOMM's way")
    add("--drive", choices=["both", "expression", "pose"], default="both", help="what to take from the driver (both)")
    add("--pose_video", help="second driver, video or picture, for the head pose, whatever --drive says")
    add("--strength", type=float, default=1.0, help="0 no change, 1 the driver's, above exaggerates (1)")
    add("--relative", action="store_true", help="transfer what changes since the driver's first frame")
    add("--adapt_scale", action="store_true", help="with --relative key points: scale movements to the source's face")
    add("--find_best_frame", action="store_true", help="--relative to the driver's frame posed most like the source")
    add("--crop", action="store_true", help="find and cut out the face in source and driver")
    add("--detector", choices=["auto", "face-alignment", "lbp"], default="auto", help="face detector of --crop (auto)")
    add("--side_by_side", action="store_true", help="show source | driver | result")
    add("--cpu", action="store_true", help="do not use a GPU")
    return parser.parse_args()


def main() -> None:
    args = parse()
    for name in ("config", "checkpoint", "source_image"):
        if getattr(args, name) is None:
            raise UserError(f"--{name} is needed: no weights are bundled yet (train with train_sid.py, or use FOMM's)")
    if args.driving_video is None and args.reference_image is None:
        raise UserError("--driving_video or --reference_image is needed: what should the face do?")

    from dataclasses import replace

    from modules import media
    from modules.config import load_config
    from modules.sid import inference
    from modules.sid.motion import MotionOptions

    drivers = [path for path in (args.driving_video, args.reference_image) if path is not None]
    pictures = [path for path in drivers if media.is_image(path)]
    if len(drivers) == 2 and len(pictures) != 1:
        raise UserError("with both --driving_video and --reference_image one must be a video, the other a picture")
    inputs = [args.source_image, *drivers, *filter(None, [args.pose_video])]
    inference.check_inputs(inputs, [args.result_video, args.result_image])
    config = load_config(args.config)
    options = MotionOptions(
        motion=args.motion,
        drive=args.drive,
        relative=args.relative or args.find_best_frame,
        adapt_scale=args.adapt_scale,
        other_pose=args.pose_video is not None,
        strength=args.strength,
    )
    motion = options.resolved(config.model_params.encoder_params is not None)
    if args.adapt_scale and motion == "embedding":
        print("--adapt_scale: embedding motion is built on the source's own key points and needs no scaling")
    model = inference.prepare_model(config.model_params, args.checkpoint, inference.best_device(args.cpu))
    size = config.dataset_params.frame_shape[:2]
    framing = inference.Framing(size, args.crop, args.detector, args.side_by_side, args.cpu)
    for path in drivers:
        if path in pictures:
            if options.relative:
                print("--relative: a single driving picture has no first frame; its absolute face is taken")
            still = replace(options, relative=False)
            inference.animate_image(model, args.source_image, path, args.result_image, framing, still, args.pose_video)
            print(f"wrote {args.result_image}")
        else:
            result, best = args.result_video, args.find_best_frame
            source, pose = args.source_image, args.pose_video
            count = inference.animate_video(model, source, path, result, framing, options, pose, best)
            print(f"wrote {result} ({count} frames)")


if __name__ == "__main__":
    run_script(main)
