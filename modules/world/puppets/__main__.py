"""Prepare photographs as puppets, and draw pictures of them with their truth.

Landmarks and mattes are found by the bundled networks, or taken from files.  What is written into --out:
puppets.safetensors (the puppets; there already, it is used and no photograph is read), report.json (what fitted, what
was left out and why), and with --triples triples/000000_{source,driver,target}.png and 000000.npz (flow, valid, mask,
landmarks and codes of each; the target's flow leads to the source).
"""

from __future__ import annotations

import argparse

from ...arguments import Parser, number
from ...errors import UserError, run_script


def arguments() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--photos", metavar="DIR", help="folder of photographs of one face each")
    parser.add_argument("--landmarks", metavar="JSON", help="68 points for each name, in pixels; needs --mattes")
    parser.add_argument("--mattes", metavar="DIR", help="PNG of each photograph, white where the person is")
    parser.add_argument("--out", metavar="DIR", required=True, help="where results are written")
    parser.add_argument("--sheet", metavar="PNG", help="write a contact sheet: photograph, then random states")
    parser.add_argument("--columns", type=number(int, 1, 100), default=6, help="states of each puppet on the sheet")
    parser.add_argument("--rows", type=number(int, 1, 1000), default=10, help="puppets on the sheet")
    parser.add_argument("--triples", type=number(int, 0, 10**9), default=0, metavar="N", help="triples to draw")
    parser.add_argument("--side", type=number(int, 128, 2048), default=512, help="pixels of a puppet's photograph")
    parser.add_argument("--size", type=number(int, 32, 1024), default=256, help="pixels of what is drawn")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, help="of all that is drawn")
    parser.add_argument("--cpu", action="store_true", help="do not use the GPU")
    args = parser.parse_args()
    if bool(args.landmarks) != bool(args.mattes):
        parser.error("--landmarks and --mattes go together; give both or neither")
    return args


def main() -> None:
    args = arguments()
    import json
    from pathlib import Path

    from ... import media  # late, so that --help is quick
    from ...atomic import check_place, write_text
    from ...devices import best_device
    from . import photographs, sheet
    from .writing import write_triples

    device, out = best_device(args.cpu), Path(args.out)
    for place in (out / "puppets.safetensors", *([args.sheet] if args.sheet else [])):
        check_place(place)
    if (out / "puppets.safetensors").exists():
        prepared = photographs.load(out / "puppets.safetensors")
        print(f"{out / 'puppets.safetensors'}: {prepared.puppets.size} puppets, made before")
    else:
        if not args.photos:
            raise UserError(f"{out / 'puppets.safetensors'}: not there yet; give --photos, a folder of photographs")
        is_told = bool(args.landmarks)
        find = photographs.from_files(args.landmarks, args.mattes) if is_told else photographs.networks(device)
        pictures = photographs.pictures_in(args.photos)
        prepared = photographs.prepare(pictures, find, args.side, device)
        photographs.save(out / "puppets.safetensors", prepared)
        report = {"puppets": prepared.names, "left out": prepared.left_out}
        write_text(out / "report.json", json.dumps(report, indent=1) + "\n")
        print(f"{prepared.puppets.size} of {len(pictures)} photographs serve; {out / 'report.json'} has the others")
    if args.sheet:
        drawn = sheet.contact_sheet(prepared.puppets.to(device), args.rows, args.columns, args.size, args.seed)
        media.write_image(args.sheet, drawn)
        print(args.sheet)
    if args.triples:
        on_device = prepared._replace(puppets=prepared.puppets.to(device))
        write_triples(out / "triples", on_device, args.triples, args.size, args.seed)


if __name__ == "__main__":
    run_script(main)
