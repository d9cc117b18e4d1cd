#!/usr/bin/python3
"""The pure parts of deploy/world: hosts, network, what hosts tell, mpirun's command, restarts, last words.

    world_launcher_test.py BIN_DIR
"""

import ipaddress
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path()  # from the command line
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "deploy"))

from world_launcher import channel, hosts, mpirun, network, preflight, probe, settings  # noqa: E402
from world_launcher.last_words import LastWords  # noqa: E402
from world_launcher.network import Interface  # noqa: E402
from world_launcher.refusal import Refusal  # noqa: E402
from world_launcher.restarts import Restarts  # noqa: E402


def refusal_of(call, *arguments, **named):
    try:
        result = call(*arguments, **named)
    except Refusal as refusal:
        return str(refusal)
    raise AssertionError(f"not refused: {result}")


class HostsTest(unittest.TestCase):
    def read(self, text, ranks=None):
        with tempfile.NamedTemporaryFile("w", suffix=".hosts") as file:
            file.write(text)
            file.flush()
            return hosts.choose(hosts.read_hostfile(file.name), ranks)

    def test_a_hostfile_and_a_list_say_the_same(self):
        expected = [hosts.Host("a", 2), hosts.Host("10.0.0.2", 4)]
        self.assertEqual(self.read("# two\na slots=2\n\n 10.0.0.2 slots=4 # the other\n"), expected)
        self.assertEqual(hosts.choose(hosts.read_list("a:2, 10.0.0.2:4"), None), expected)
        self.assertEqual(hosts.ranks_on(expected, "10.0.0.2"), [2, 3, 4, 5])

    def test_ranks_per_host_is_within_the_slots(self):
        self.assertEqual(self.read("a slots=8\nb\n", 3), [hosts.Host("a", 3), hosts.Host("b", 3)])
        self.assertIn("host a has 2 slots and --ranks-per-host is 3", refusal_of(self.read, "a slots=2\n", 3))

    def test_bad_hostfiles_are_refused_by_line(self):
        for text, part in (
                ("", "names no host"),
                ("# a\n", "names no host"),
                ("a slots=2\na slots=2\n", "line 2: host a is there already"),
                ("a slots=0\n", "line 1: host a has 0 ranks"),
                ("a\n", "how many ranks"),
                ("a max_slots=4\n", 'line 1: "max_slots=4" is not known'),
                ("a slots=two\n", '"slots=two"'),
                ("a slots=1 slots=2\n", '"slots=2"'),
                ("node_1 slots=2\n", 'host "node_1": Open MPI takes names'),
                ("-x slots=2\n", 'host "-x"')):
            self.assertIn(part, refusal_of(self.read, text), text)
        self.assertIn("No such file", refusal_of(hosts.read_hostfile, "/nowhere/hosts"))

    def test_bad_lists_are_refused_by_item(self):
        for text, part in (("a:2,,b:2", '"" is no HOST:RANKS'), ("a:x", '"a:x"'), ("a:2,a:2", "host a is there"),
                           ("a:0", "has 0 ranks"), ("", '"" is no')):
            self.assertIn(part, refusal_of(lambda: hosts.choose(hosts.read_list(text), None)), text)

    def test_mpirun_begins_with_the_host_it_runs_on(self):
        three = [hosts.Host(name, 1) for name in "abc"]
        ordered = hosts.as_mpirun_orders(three, lambda name: name == "b")
        self.assertEqual([host.name for host in ordered], ["b", "a", "c"])


def on(*addresses, default=None):
    """Interfaces of a host: "10.0.0.1/24" and so on; `default`: that one's index."""
    found = []
    for index, text in enumerate(addresses):
        interface = ipaddress.IPv4Interface(text)
        found.append(Interface(f"eth{index}", interface.ip, interface.network, index == default))
    return found


class NetworkTest(unittest.TestCase):
    def choose(self, interfaces, wanted=None, resolved=None):
        chosen, problems = network.choose(interfaces, wanted and ipaddress.IPv4Network(wanted),
                                          resolved and ipaddress.IPv4Address(resolved))
        return str(chosen) if chosen else None, problems

    def test_takes_one_that_all_are_on_with_an_address_of_their_own(self):
        docker = "172.17.0.1/16"
        two = {"a": on("127.0.0.1/8", docker, "10.0.0.1/24"), "b": on("10.0.0.2/24", docker)}
        self.assertEqual(self.choose(two), ("10.0.0.0/24", []))
        self.assertEqual(self.choose({"a": on(docker), "b": on(docker)})[0], None)
        link_local = {"a": on("169.254.1.1/16"), "b": on("169.254.1.2/16")}
        self.assertEqual(self.choose(link_local)[0], None)

    def test_of_several_the_one_of_the_name_then_that_of_the_default_route(self):
        two = {"a": on("10.0.0.1/24", "10.1.0.1/24", "10.2.0.1/24", default=1),
               "b": on("10.0.0.2/24", "10.1.0.2/24", "10.2.0.2/24")}
        self.assertEqual(self.choose(two)[0], "10.1.0.0/24")
        self.assertEqual(self.choose(two, resolved="10.2.0.1")[0], "10.2.0.0/24")
        self.assertEqual(self.choose(two, resolved="192.168.0.1")[0], "10.1.0.0/24")

    def test_what_is_wanted_may_hold_several_networks_but_an_address_of_each_host(self):
        pods = {"a": on("10.244.1.5/32"), "b": on("10.244.2.7/32")}
        self.assertEqual(self.choose(pods)[0], None)
        self.assertEqual(self.choose(pods, "10.244.0.0/16"), ("10.244.0.0/16", []))
        chosen, problems = self.choose(pods, "10.244.1.0/24")
        self.assertIsNone(chosen)
        self.assertEqual(problems, ["host b: network: it has no address in --network=10.244.1.0/24, but "
                                    "10.244.2.7/32 (eth0); give a network in which every host has one"])

    def test_names_the_host_that_is_on_none_of_them(self):
        three = {"a": on("10.0.0.1/24"), "b": on("10.0.0.2/24"), "c": on("127.0.0.1/8")}
        _, problems = self.choose(three)
        self.assertEqual(len(problems), 1)
        self.assertIn("host c: network: a has 10.0.0.1/24 (eth0) and it has no address but loopback", problems[0])

    def test_one_host_needs_no_network(self):
        self.assertEqual(self.choose({"a": on("127.0.0.1/8")})[0], "127.0.0.0/8")
        self.assertEqual(self.choose({"a": on("127.0.0.1/8", "10.0.0.1/24")})[0], "10.0.0.0/24")


ANSWER = """\
@mpirun mpirun (Open MPI) 4.1.4
@build deltaserve-worker 1.0 (build abc)
@model yes
@fingerprint f00d
@memory 8000000000
@limit max
@limit 6000000000
@gpus 2
@route eth0 00000000 0100000A 00000000
@route eth0 0000000A 00000000 00FFFFFF
@address 10.0.0.5
@address 127.0.0.1
@address 10.9.9.9
@listens 0500000A:C384
@listens 00000000000000000000000000000000:0016
@end
"""


class ProbeTest(unittest.TestCase):
    def test_reads_what_a_host_tells(self):
        facts = probe.parse(ANSWER)
        self.assertEqual((facts.build, facts.fingerprint, facts.memory, facts.gpus),
                         ("deltaserve-worker 1.0 (build abc)", "f00d", 6000000000, 2))
        self.assertEqual([str(one) for one in facts.interfaces],
                         ["10.0.0.5/24 (eth0)", "127.0.0.1/8 (lo)", "10.9.9.9/32 (eth0)"])
        self.assertTrue(facts.interfaces[0].is_default)
        self.assertEqual(facts.listens, {(ipaddress.IPv4Address("10.0.0.5"), 50052), (None, 22)})

    def test_half_an_answer_is_none(self):
        self.assertIsNone(probe.parse(ANSWER.replace("@end\n", "")))
        self.assertIsNone(probe.parse(""))

    def test_the_script_finds_this_machine(self):
        with tempfile.TemporaryDirectory() as folder:
            script = probe.probe_script("deltaserve-world-probe-test", folder, folder, False)
            reply = channel.run_shell([], script, 30)
            channel.run_shell([], probe.sweep_script("deltaserve-world-probe-test"), 30)
        facts = probe.parse(reply.output)
        self.assertIn("Open MPI", facts.mpirun, reply)
        self.assertIn(ipaddress.IPv4Address("127.0.0.1"), [one.address for one in facts.interfaces])
        self.assertGreater(facts.memory, 1 << 20)
        self.assertEqual((facts.build, facts.has_model), ("", True))
        self.assertFalse(pathlib.Path("/tmp/deltaserve-world-probe-test").exists())

    def test_a_taken_port_is_one_on_this_address_or_on_all(self):
        facts = probe.parse(ANSWER)
        net = ipaddress.IPv4Network("10.0.0.0/24")
        for port, taken in ((50052, 1), (22, 1), (50053, 0), (0, 0)):
            self.assertEqual(len(preflight.taken_port(facts, "a", net, port)), taken, port)


def read(*words, is_root=False):
    return settings.read(["/model", "--hosts", "a:2,b:2", *words], is_root=is_root)


class PreflightTest(unittest.TestCase):
    def facts(self, **changes):
        facts = probe.parse(ANSWER)
        for name, value in changes.items():
            setattr(facts, name, value)
        return facts

    def test_names_the_one_that_differs_from_most(self):
        three = {"a": self.facts(build="other", fingerprint="bad"), "b": self.facts(), "c": self.facts()}
        problems = preflight.differing(three, read())
        self.assertEqual(len(problems), 2)
        self.assertTrue(all(problem.startswith("host a: ") for problem in problems), problems)

    def test_a_program_that_lacks_is_told_once(self):
        lacking = self.facts(build="", fingerprint="", refusal="sh: not found", mpirun="")
        problems = preflight.differing({"a": self.facts(), "b": lacking}, read())
        self.assertEqual([problem.split(":")[1] for problem in problems], [" Open MPI", " binary"])

    def test_silent_hosts_and_different_ones_are_told_together(self):
        for build, code in (("deltaserve-worker 1.0 (build abc)", 69), ("", 64)):
            answers = {"a": channel.Reply(0, ANSWER, ""), "b": channel.Reply(255, "", "no route"),
                       "c": channel.Reply(0, ANSWER.replace("deltaserve-worker 1.0 (build abc)", build), "")}
            way = mock.Mock(agent=["ssh"], run=lambda *arguments: answers)
            with self.assertRaises(Refusal) as raised:
                preflight.look(settings.read(["/model", "--hosts", "a:1,b:1,c:1"], is_root=False), way)
            self.assertEqual(raised.exception.code, code)
            self.assertEqual(len(raised.exception.problems), 1 if build else 2)

    def test_memory_is_that_of_all_ranks_of_a_host(self):
        plan = {"weights_total": {"bytes_a_rank": 1000}, "kv_memory": 500, "slots": 2, "kv_bytes_per_token": 1,
                "state_bytes_per_sequence": 10, "kv_concurrency": [{"context": 64}, {"context": 100}]}
        self.assertEqual(preflight.bytes_a_rank(plan), 1000 + 2 * 100 + 20)
        self.assertEqual(preflight.bytes_a_rank(plan, 400), 1000 + 500 + 20)
        two = {"a": self.facts(memory=2440), "b": self.facts(memory=2439)}
        problems = preflight.lacking_memory(two, read(), plan)
        self.assertEqual(len(problems), 1)
        self.assertIn("host b: memory", problems[0])

    def test_the_memory_of_a_host_is_not_that_of_its_gpus(self):
        plan = {"weights_total": {"bytes_a_rank": 10**15}, "kv_memory": 0, "slots": 1, "kv_bytes_per_token": 1,
                "state_bytes_per_sequence": 10, "kv_concurrency": [{"context": 64}]}
        hosts = {"a": self.facts(), "b": self.facts()}
        self.assertEqual(len(preflight.lacking_memory(hosts, read(), plan)), 2)
        self.assertEqual(preflight.lacking_memory(hosts, read("--device=cuda"), plan), [])

    def test_every_rank_has_a_gpu_unless_they_may_share(self):
        facts = {"a": self.facts(gpus=2), "b": self.facts(gpus=1)}
        for words, parts in ((["--device=cpu"], []),
                             (["--device=cuda"], ["a rank a GPU at most"]),
                             (["--device=cuda", "--ranks-per-gpu", "2"], []),
                             (["--device=cuda", "--ranks-per-gpu=0"], ["host a", "0 ranks a GPU at most"]),
                             (["--device=cuda", "--ranks-per-gpu=x"], ["host b: GPUs: --device is cuda, its ranks "
                                                                      "are 2 and its GPUs 1"])):
            problems = "; ".join(preflight.lacking_gpus(facts, read(*words)))
            self.assertEqual(bool(problems), bool(parts), words)
            for part in parts:
                self.assertIn(part, problems)

    def test_what_an_agent_says_leads_to_a_remedy(self):
        for said, part in (("ssh: Could not resolve hostname b: Name or service not known", "DNS"),
                           ("ssh: connect to host b port 22: Connection refused", "start sshd"),
                           ("me@b: Permission denied (publickey).", "ssh-copy-id"),
                           ("Host key verification failed.", "ssh-keyscan"),
                           ("ssh: connect to host b port 22: Connection timed out", "start it"),
                           ("", "make \"ssh b true\" work")):
            message = channel.why_silent("b", channel.Reply(255, "", said), ["ssh"])
            self.assertIn(part, message)
            self.assertTrue(message.startswith("host b: not reached: "), message)


class SettingsTest(unittest.TestCase):
    def test_flags_of_the_worker_go_on_with_their_values(self):
        found = read("--slots", "8", "--kv-memory=2G", "--record-ops", "--port", "0", "--threads", "1")
        self.assertEqual(found.worker_flags, ["--slots", "8", "--kv-memory=2G", "--record-ops", "--threads", "1"])
        self.assertEqual((found.port, found.worker_flag("--slots"), found.worker_flag("--kv-memory"),
                          found.worker_flag("--moe")), (0, "8", "2G", None))
        self.assertEqual(found.ranks, 4)

    def test_what_it_knows_of_the_binaries_flags_is_so(self):
        flags = {}
        for name in ("worker", "plan"):
            shown = subprocess.run([BIN / f"deltaserve-{name}", "--help"], capture_output=True, text=True, check=True)
            flags[name] = dict(re.findall(r"^  (--[\w-]+)( \S+)?", shown.stdout, re.MULTILINE))
        bare = {flag for flag, value in flags["worker"].items() if not value} - {"--help", "--version"}
        self.assertEqual(bare, settings.WITHOUT_VALUE)
        self.assertLessEqual(set(settings.OURS) | {"--load", "--device", "--max-context", "--ranks-per-gpu"}, set(flags["worker"]))
        for flag in preflight.PLAN_FLAGS:
            self.assertIn(flag, flags["worker"])
            self.assertIn(flag, flags["plan"])

    def test_refusals_name_flag_and_remedy(self):
        for words, part in (
                (["--listen", "0.0.0.0:1"], "--listen is given by this program; use --network and --port"),
                (["--model=/x"], "use MODEL"),
                (["--network", "10.0.0.1"], "--network is 10.0.0.1"),
                (["--network", "10.0.0.0/33"], "--network is 10.0.0.0/33"),
                (["--port", "70000"], "--port is 70000"),
                (["--port", "x"], "--port"),
                (["--max-losses", "0"], "--max-losses is 0"),
                (["--ranks-per-host", "0"], "--ranks-per-host is 0"),
                (["--wait", "-1"], "--wait is -1"),
                (["--mca", "btl"], '--mca is "btl"'),
                (["--env", "1X"], '--env is "1X"'),
                (["--hostfile", "f"], "not allowed with"),
                (["other"], "unrecognized arguments: other")):
            self.assertIn(part, refusal_of(read, *words), words)

    def test_root_needs_leave(self):
        with mock.patch.dict(os.environ):
            os.environ.pop("OMPI_ALLOW_RUN_AS_ROOT", None)
            self.assertIn("--allow-run-as-root", refusal_of(read, is_root=True))
            read("--allow-run-as-root", is_root=True)


class MpirunTest(unittest.TestCase):
    def command(self, *words, local=()):
        net = ipaddress.IPv4Network("10.0.0.0/24")
        return " ".join(mpirun.command(read(*words), net, lambda host: host in local))

    def test_the_command_holds_what_many_hosts_need(self):
        with mock.patch.dict(os.environ, {"NCCL_DEBUG": "WARN"}):
            command = self.command("--env", "A=1", "--slots", "3", "--agent", "ssh -p 2222", local=("a",))
        for part in ("mpirun -np 4 --host a:2,b:2 --map-by slot --bind-to none ",
                     "--mca btl_tcp_if_include 10.0.0.0/24 ", "--mca oob_tcp_if_include 10.0.0.0/24 ",
                     "--mca oob_tcp_keepalive_probes 3 ", "--mca orte_keep_fqdn_hostnames 1 ",
                     "--mca mpi_yield_when_idle 1 ", "--mca plm_rsh_agent ssh -p 2222 ", "-x A=1 -x NCCL_DEBUG ",
                     "--listen 10.0.0.0/24:50052 --control-network 10.0.0.0/24 --address-file - ", "--slots 3"):
            self.assertIn(part, command)

    def test_ranks_on_this_machine_alone_need_no_agent(self):
        self.assertNotIn("plm", self.command(local=("a", "b")).replace("plm_rsh_no_tree_spawn", ""))

    def test_a_parameter_of_the_user_is_the_last_word(self):
        command = self.command("--mca", "btl=tcp,self")
        self.assertIn("--mca btl tcp,self ", command)
        self.assertNotIn("vader,self", command)


class RestartsTest(unittest.TestCase):
    def test_waits_longer_each_time_and_gives_up_at_the_fifth_loss_within_ten_minutes(self):
        restarts = Restarts(5)
        self.assertEqual([restarts.after_loss(time, 0) for time in (0, 10, 20, 30)], [1, 2, 4, 8])
        self.assertIsNone(restarts.after_loss(40, 0))

    def test_losses_far_apart_do_not_add_up_and_the_wait_has_an_end(self):
        restarts = Restarts(5)
        waits = [restarts.after_loss(200.0 * n, 0) for n in range(20)]
        self.assertEqual(waits[:8], [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertNotIn(None, waits)

    def test_ten_healthy_minutes_begin_anew(self):
        restarts = Restarts(5)
        for time in (0, 10, 20, 30):
            restarts.after_loss(time, 0)
        self.assertEqual(restarts.after_loss(640, 600), 1)
        self.assertEqual(restarts.after_loss(650, 1), 2)

    def test_the_first_loss_may_be_the_last(self):
        self.assertIsNone(Restarts(1).after_loss(0, 5000))

    def test_a_silent_host_is_no_loss(self):
        restarts = Restarts(2)
        self.assertEqual([restarts.after_silence() for _ in range(8)], [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(restarts.after_loss(0, 0), 60)


CLOSED = "its control link closed: killed or crashed"
NOTICE = "mpirun noticed that process rank 3 with PID 12 on node b exited on signal 9 (Killed)."
DAEMON = "  Remote daemon: [[24300,0],1] on node b"


class LastWordsTest(unittest.TestCase):
    def root(self, code, *lines):
        words = LastWords()
        for line in lines:
            words.hear(line + "\n")
        return words.root_cause(code, "a", lambda host: {"a": [0, 1], "b": [2, 3]}[host]), words.words()

    def test_the_root_cause_is_found_behind_what_follows_from_it(self):
        follows = f"deltaserve-worker: rank 0 on a: ends with rank 3 on b: {CLOSED}"
        own = "deltaserve-worker: rank 1 on a: step 8 has run for 31s, 30s allowed"
        for code, lines, root in (
                (137, [follows, NOTICE], "rank 3 on b: ended by SIGKILL"),
                (70, [follows], f"rank 3 on b: {CLOSED}"),
                (141, [follows, NOTICE.replace("rank 3", "rank 1").replace("node b", "node a")],
                 f"rank 3 on b: {CLOSED}"),
                (137, [NOTICE], "rank 3 on b: ended by SIGKILL"),
                (205, [DAEMON, follows],
                 "ranks 2, 3 on b: mpirun lost its daemon there: host dead, network cut or orted killed"),
                (70, [follows, own, DAEMON], own.removeprefix("deltaserve-worker: ")),
                (70, ["deltaserve-worker: rank 2 on b: given up by the other ranks: nothing heard"],
                 "rank 2 on b: given up by the other ranks: nothing heard"),
                (134, ["worker/a.cc:12: check failed: x", NOTICE], "rank 3 on b: worker/a.cc:12: check failed: x"),
                (64, ["deltaserve-worker: --slots is 0: use 1; see --help"], "--slots is 0: use 1; see --help"),
                (-9, [follows], "mpirun on a: ended by SIGKILL"),
                (1, ["hello"], "no rank said why; mpirun ended with code 1, and its output is above")):
            self.assertEqual(self.root(code, *lines)[0], root, lines)

    def test_the_root_comes_last(self):
        _, words = self.root(70, "deltaserve-worker: rank 1 on a: late", f"deltaserve-worker: rank 0 on a: ends with "
                             "rank 1 on a: late", "2026-01-01 I rank 0 ready")
        self.assertEqual(words, ["rank 0 on a: ends with rank 1 on a: late", "rank 1 on a: late"])


if __name__ == "__main__":
    BIN = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main()
