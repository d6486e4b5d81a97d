"""`pipeline keys`, `pipeline sign`, `pipeline verify`: who vouches for a bundle, and whether it is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import Inventory, Json

if TYPE_CHECKING:
    from deploy.signing import PublicKey
    from deploy.verify import Verified

app = typer.Typer(help="Keys that sign bundles: new, list.", no_args_is_help=True)

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that pull wrote.")]

# Every verb takes --inventory, so that a script may pass it always; keys and bundles do not depend on it.


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")] = "default",
    inventory: Inventory = None,  # noqa: ARG001
    json: Json = False,
) -> None:
    """Make a key pair in your own data folder, mode 0600; the .pub file is what boards and others are given."""
    from deploy import signing

    made = signing.new_key(name)
    if json:
        print_json(_as_json(made))
        return
    out.print(Text("✓ ", style="green").append(f"{made.name}  SHA-256 {made.id}", style="not bold default"))
    err.print(f"private, keep it: {signing.folder() / made.name}.pem", markup=False)
    err.print(f"public, hand it out: {signing.folder() / made.name}.pub", markup=False)
    err.print(f"next    pipeline sign BUNDLE --key {made.name}", markup=False)
    err.print(f"        pipeline devices trust NAME --key {made.name}  # the board then takes signed bundles only")


@app.command("list")
def list_keys(inventory: Inventory = None, json: Json = False) -> None:  # noqa: ARG001
    """List your keys."""
    from deploy import signing

    found = signing.own_keys()
    if json:
        print_json([_as_json(key) for key in found])
        return
    for key in found:
        out.print(f"{key.name}  SHA-256 {key.id}", markup=False)
    if not found:
        out.print(f"no keys in {signing.folder()}; `pipeline keys new` makes one", markup=False)


def sign(
    bundle: Bundle,
    key: Annotated[str, typer.Option("--key", metavar="NAME", help="Which of your keys.")] = "default",
    inventory: Inventory = None,  # noqa: ARG001
    json: Json = False,
) -> None:
    """Sign a bundle, offline, with OpenSSF's model signing; a signature of before is replaced."""
    from deploy import signing

    signed = signing.sign(bundle, key)
    if json:
        print_json({"folder": str(bundle.absolute()), "key": _as_json(signed)})
        return
    line = f"{bundle} is signed with {signed.name}  SHA-256 {signed.id}"
    out.print(Text("✓ ", style="green").append(line, style="not bold default"))


def verify(
    bundle: Bundle,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="NAME|FILE.pub", help="Require a signature by this key, or one of several."),
    ] = None,
    inventory: Inventory = None,  # noqa: ARG001
    json: Json = False,
) -> None:
    """Check a bundle: every file, the schema, the signature, and the answers to the stored inputs."""
    from deploy.verify import verify_by_names

    with err.status(f"verifying {bundle.name} …"):
        found = verify_by_names(bundle, key)
    if json:
        print_json(found)
    else:
        print_verified(found)


def print_verified(found: Verified) -> None:
    """Print what was checked, a line each."""
    signature = {
        "valid": f"signed by {found.key_name or 'a trusted key'} ({str(found.key)[:16]})",
        "unknown key": f"signed by {str(found.key)[:16]}, a key that is not yours: not checked; give --key FILE.pub",
        "unsigned": "unsigned: nobody vouches for it; `pipeline sign` does",
    }[found.signature]
    lines = [
        (True, f"{found.files} files, {found.size_bytes:,} bytes, each as it was written"),
        (True, "the manifest fits its schema"),
        (found.signature == "valid" or None, signature),
        (None if found.parity is None else True, _parity(found)),
    ]
    for good, text in lines:
        sign = Text("✓ ", style="green") if good else Text("– ", style="dim")
        out.print(sign.append(text, style="not bold default"))


def _parity(found: Verified) -> str:
    if found.parity is None:
        return f"its answers were not looked at: {found.parity_skipped}"
    files = [f"{name} answers as stored, within {share:.1e} of the largest score" for name, share in
             found.parity["files"].items()]  # fmt: skip
    pairs = [f"{' and '.join(pair['files'])} differ by {pair['difference']:.1e}" for pair in found.parity["pairs"]
             if pair["same_precision"]]  # fmt: skip
    return "; ".join([*files, *pairs])


def _as_json(key: PublicKey) -> dict[str, Any]:
    return {"name": key.name, "sha256": key.id, "pem": key.pem.decode()}
