"""Make a file of weights by its recipe: data, trainings within a time budget, export, evaluation."""

from __future__ import annotations

from pathlib import Path

from ..arguments import Parser, number
from ..errors import UserError, run_script


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("recipe", help="YAML file, such as recipes/toy.yaml")
    add("--minutes", type=number(float, 0.01, 10**6), help="of training, all steps together; left out: the recipe's")
    add("--out", type=Path, help="folder of everything that is made; left out: log/recipes/<the recipe's name>")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one")
    args = parser.parse_args()
    from .reading import read_recipe
    from .running import run_recipe, summary

    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: there is no GPU that PyTorch can use; choose auto or cpu")
    recipe = read_recipe(args.recipe)
    folder = args.out or Path("log", "recipes", Path(args.recipe).stem)
    made = run_recipe(recipe, folder, args.minutes, args.device)
    print(f"\nall {len(recipe.steps)} steps are done:\n{summary(recipe, folder, made)}")


if __name__ == "__main__":
    run_script(main)
