# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Put small third-party model files (face detector, face mesh) into the cache folder and print where they are."""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.assets import ASSETS, cache_dir, cached_asset, fetch_asset
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="model files to fetch (see --list)")
    parser.add_argument("--all", action="store_true", help="fetch every known file")
    parser.add_argument("--list", action="store_true", help="list the known files and whether the cache has them")
    parser.add_argument("--cache", metavar="DIR", help="cache folder (default: ESPNET_AV_CACHE, else tools/cache)")
    parser.add_argument("--wheel", metavar="FILE", help="take the files out of this wheel instead of downloading it")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    if args.list:
        sys.stdout.write(f"cache folder: {args.cache or cache_dir()}\n")
        for asset in ASSETS.values():
            state = "cached" if cached_asset(asset.name, args.cache) else "absent"
            sys.stdout.write(
                f"{asset.name}  {state}  {asset.num_bytes} bytes  {asset.licence}  {asset.requirement}  "
                f"sha256 {asset.sha256}\n"
            )
        return 0
    names = sorted(ASSETS) if args.all else args.names
    if not names:
        usage_error("no model file named", allowed=sorted(ASSETS), fix="name some, or pass --all or --list")
    for name in names:
        sys.stdout.write(f"{fetch_asset(name, args.cache, wheel=args.wheel)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
