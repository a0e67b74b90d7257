"""wire/*.pcapng: the frames that checks rest on, a file for each behaviour, as Wireshark reads them."""

from __future__ import annotations

from pathlib import Path

from probes.report.reader import Results, evidence


def write(results: Results, folder: Path) -> list[Path]:
    """Write the files of a run into DIRECTORY/wire, none if no frame was kept, and returns them.

    Times are those of the calls in evidence.jsonl: seconds of CLOCK_MONOTONIC.
    """
    frames = {seq: line for seq, line in evidence(folder).items() if line["type"] == "frame"}
    if not frames:
        return []
    # Imported here: it is slow, and few runs of a few checks need it.
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgWriter

    wanted: dict[str, set[int]] = {}
    for check in results.checks:
        wanted.setdefault(check.key.id, set()).update(seq for seq in check.seq if seq in frames)
    (folder / "wire").mkdir(exist_ok=True)
    written = []
    for id, numbers in sorted(wanted.items()):
        if not numbers:
            continue
        path = folder / "wire" / f"{id}.pcapng"
        with PcapNgWriter(str(path)) as writer:
            for seq in sorted(numbers):
                packet = Ether(bytes.fromhex(frames[seq]["raw"]))
                packet.time = frames[seq]["t_ns"] / 1e9
                writer.write(packet)
        written.append(path)
    return written
