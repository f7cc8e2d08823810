"""Compute beforehand what MEF's training keeps of a data set; training builds what is missing itself.

``torchrun --nproc_per_node 4 -m ...`` shares the work.
"""

from __future__ import annotations

from ...arguments import Parser
from ...errors import UserError, run_script


def main() -> None:
    parser = Parser("Compute what MEF's training keeps of a data set.")
    parser.add_argument("--config", required=True, help="YAML file, such as config/mef-sd15.yaml")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    args = parser.parse_args()

    from ...config.files import load_mef_config
    from ...training.run import build_accelerator
    from ..train import build_cache, build_frozen, read_tables

    config = load_mef_config(args.config)
    if config.dataset_params.cache_dir is None:
        raise UserError(f"{args.config}: dataset_params.cache_dir: set it to the folder to build the cache in")
    tables, bad = read_tables(config)
    accelerator = build_accelerator(config.train_params, args.cpu)
    frozen = build_frozen(config, args.cpu).to(accelerator.device)
    cache = build_cache(config, tables, frozen, accelerator)
    if accelerator.is_main_process:
        rows = ", ".join(f"{len(items)} {name}" for name, items in tables.items().items())
        print(f"{cache.place}: {rows}; {len(bad)} portraits are left out")


if __name__ == "__main__":
    run_script(main)
