#!/usr/bin/python3
"""tools/gpu_report with a bench that says what the test wants: no device is timed."""

import json
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = r"""#!/bin/sh
for word in "$@"; do
  case "$word" in
    */4b.json) echo "refused: no CUDA device" >&2; exit 69 ;;
    --json=*) json=${word#--json=} ;;
    --moe-backend=*) [ -f "$0.cutlass.json" ] || { echo "refused: no such kernels" >&2; exit 64; }; from=.cutlass ;;
  esac
done
cp "$0$from.json" "$json"
"""
REPORT = {
    "tool": "bench_ops", "build": "abc123", "device": "cuda:0 (X)", "gpu": "X, 132 multiprocessors", "threads": 2.0,
    "limits": {"read_bytes_per_second": 3e12, "fma_flops_per_second": 8e14, "fma": "bf16 products by cuBLASLt"},
    "measurements": [{"what": "linear head", "calls": 4, "seconds": 8e-4, "bytes_per_second": 2e12,
                      "flops_per_second": 4e12, "share_of_read": 0.667, "share_of_fma": 0.005,
                      "share_of_limit": 0.667}]}


class GpuReportTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        bench = self.folder / "deltaserve-bench_ops"
        bench.write_text(BENCH)
        bench.chmod(0o755)
        bench.with_suffix(".json").write_text(json.dumps(REPORT))

    def report(self, models, *flags):
        return subprocess.run([ROOT / "tools/gpu_report", "--bin", self.folder, "--models", models, "--output",
                               self.folder / "out", *flags], capture_output=True, text=True, check=False)

    def give(self, suffix, *names):
        measurements = [dict(REPORT["measurements"][0], what=name) for name in names]
        (self.folder / f"deltaserve-bench_ops{suffix}").write_text(json.dumps(dict(REPORT, measurements=measurements)))

    def test_writes_a_page_and_what_it_was_made_of(self):
        ran = self.report("0.8b,9b")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        page = (self.folder / "out/REPORT-abc123.md").read_text()
        for part in ("# GPU report abc123", "X, 132 multiprocessors", "copies of 3000 to 3000 GB/s",
                     "800.0 to 800.0 TFLOP/s (bf16 products by cuBLASLt)", "## 0.8b", "## 9b",
                     "| linear head | 200.0 | 2000 | 4.0 | 67 % | 0 % | 67 % |"):
            self.assertIn(part, page)
        kept = json.loads((self.folder / "out/REPORT-abc123.json").read_text())
        self.assertEqual(kept["models"], {"0.8b": REPORT, "9b": REPORT})

    def test_ops_of_a_library_are_reported_beside_ours(self):
        self.give(".json", "experts, rows 512", "route_experts, rows 512", "linear head")
        self.give(".cutlass.json", "experts, rows 512", "route_experts, rows 512")
        ran = self.report("35b-a3b")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        page = (self.folder / "out/REPORT-abc123.md").read_text()
        self.assertEqual([line.split(" |")[0][2:] for line in page.splitlines() if line.endswith("67 % |")],
                         ["experts, rows 512", "route_experts, rows 512", "linear head", "experts, rows 512, cutlass"])

    def test_a_build_without_libraries_is_named_and_native_leaves_them_out(self):
        self.give(".json", "experts, rows 512")
        ran = self.report("35b-a3b")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("35b-a3b: code 64: refused: no such kernels", ran.stderr)
        ran = self.report("35b-a3b", "--native")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertNotIn("cutlass", (self.folder / "out/REPORT-abc123.md").read_text())

    def test_a_model_that_fails_is_named_and_the_others_are_reported(self):
        ran = self.report("4b,9b")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("4b: code 69: refused: no CUDA device", ran.stderr)
        self.assertIn("not measured: 4b", ran.stderr)
        self.assertNotIn("## 4b", (self.folder / "out/REPORT-abc123.md").read_text())

    def test_nothing_measured_writes_nothing(self):
        ran = self.report("4b")
        self.assertEqual(ran.returncode, 1)
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    unittest.main()
