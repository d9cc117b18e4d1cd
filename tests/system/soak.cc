#include "tests/system/soak.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <thread>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "tests/system/soak_client.h"

namespace deltaserve::test {
namespace {

constexpr int kRanks = 2;
// So few that some wait, and a burst finds the queue full.
constexpr char kSlots[] = "6";
// So little that it is soon all touched, and that some wait for blocks.
constexpr char kKvMemory[] = "8M";
constexpr char kMaxQueue[] = "16";
// So short that steps with prompts hold no answer up for long.
constexpr char kTokenBudget[] = "128";
constexpr absl::Duration kBetweenBursts = absl::Seconds(5);
constexpr absl::Duration kBetweenBreaks = absl::Milliseconds(700);
// Of what the load used until it is given back: gRPC closes connections and ends threads late.
constexpr absl::Duration kGiveBack = absl::Seconds(20);
constexpr absl::Duration kDrain = absl::Seconds(10);

// A process that is watched.
struct Watched {
  std::string name;
  pid_t pid = 0;
  ProcessNumbers start;
  std::vector<int64_t> resident = {};  // one sample a period
};

std::vector<Watched> Watch(ServedModel& served) {
  std::vector<Watched> all = {{"router", served.router().pid(), {}}};
  for (const int pid : served.RankPids()) {
    all.push_back({absl::StrCat("rank ", all.size() - 1), pid, {}});
  }
  for (Watched& one : all) one.start = NumbersOf(one.pid).value_or(ProcessNumbers{});
  return all;
}

int64_t Most(const std::vector<int64_t>& values, size_t first, size_t last) {
  return *std::max_element(values.begin() + static_cast<ptrdiff_t>(first),
                           values.begin() + static_cast<ptrdiff_t>(last));
}

// Until `end`: clients in threads of their own, memory looked at from this one.
void Load(ServedModel& served,
          const std::vector<Question>& questions,
          const std::vector<BadRequest>& bad_requests,
          const SoakOptions& options,
          SoakTally& tally,
          std::vector<Watched>& watched) {
  const absl::Time end = absl::Now() + options.duration;
  std::vector<std::thread> threads;
  const auto run = [&](uint64_t number, absl::Duration pause, auto step) {
    threads.emplace_back([&, number, pause, step] {
      SoakClient client(served, questions, bad_requests,
                        {.seed = options.seed * 1000 + number, .end = end}, tally);
      while (absl::Now() < end) {
        step(client);
        absl::SleepFor(pause);
      }
    });
  };
  for (int i = 0; i < options.clients; ++i) {
    run(static_cast<uint64_t>(i), absl::ZeroDuration(), [](SoakClient& client) { client.Step(); });
  }
  run(900, kBetweenBursts, [](SoakClient& client) { client.Burst(); });
  run(901, kBetweenBreaks, [](SoakClient& client) { client.BreakOff(); });

  const absl::Duration period = std::max(absl::Milliseconds(100), options.duration / 600);
  while (absl::Now() < end) {
    for (Watched& one : watched) {
      if (const auto numbers = NumbersOf(one.pid)) {
        one.resident.push_back(numbers->resident_bytes);
      }
    }
    absl::SleepFor(period);
  }
  for (std::thread& thread : threads) thread.join();
}

void CheckMemory(const Watched& one, int64_t most_growth, SoakReport* report) {
  const size_t count = one.resident.size();
  if (count < 6) {
    report->faults.push_back(absl::StrCat(one.name, " was seen ", count, " times only"));
    return;
  }
  const int64_t middle = Most(one.resident, count / 3, 2 * count / 3);
  const int64_t last = Most(one.resident, 2 * count / 3, count);
  absl::StrAppend(&report->numbers, "  ", one.name, ": ", one.start.resident_bytes >> 10,
                  " KiB at the start, at most ", Most(one.resident, 0, count / 3) >> 10, ", ",
                  middle >> 10, ", ", last >> 10, " KiB in each third; ", one.start.threads,
                  " threads, ", one.start.files, " descriptors\n");
  if (last > middle + most_growth) {
    report->faults.push_back(absl::StrCat(one.name, " grew from ", middle, " to ", last,
                                          " bytes between the middle and the last third"));
  }
}

void CheckGivenBack(const Watched& one, absl::Time deadline, SoakReport* report) {
  // gRPC's executor keeps up to two threads a core once it had work for them; others, of timers,
  // come and go.
  const int64_t most_threads = one.start.threads + 4 * sysconf(_SC_NPROCESSORS_CONF);
  ProcessNumbers now;
  do {
    now = NumbersOf(one.pid).value_or(ProcessNumbers{.files = -1});
    if (now.files < 0 || (now.files <= one.start.files && now.threads <= most_threads)) break;
    absl::SleepFor(absl::Milliseconds(50));
  } while (absl::Now() < deadline);
  if (now.files < 0) return report->faults.push_back(one.name + " is gone");
  if (now.files > one.start.files || now.threads > most_threads) {
    report->faults.push_back(absl::StrCat(one.name, " has ", now.files, " descriptors and ",
                                          now.threads, " threads, of ", one.start.files, " and ",
                                          one.start.threads, " at the start"));
  }
}

void CheckLoad(const v1::Load& load, SoakReport* report) {
  if (load.running() + load.waiting() + load.slots_used() + load.kv_blocks_used() == 0) return;
  report->faults.push_back(absl::StrCat("the world is not empty: ", load.ShortDebugString()));
}

// Warnings and errors of ours, errors of gRPC, last words. Not protobuf's: it tells of each text
// that is not UTF-8.
void CheckLog(const std::string& name, const std::string& log, SoakReport* report) {
  for (const absl::string_view line : absl::StrSplit(log, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    const bool is_ours = words.size() > 1 && (words[1] == "W" || words[1] == "E");
    const bool is_of_grpc = line.size() > 1 && line[0] == 'E' && absl::ascii_isdigit(line[1]);
    if (is_ours || is_of_grpc || absl::StrContains(line, "heck failed") ||
        absl::StrContains(line, "terminate called")) {
      report->faults.push_back(absl::StrCat("log of the ", name, ": ", line));
    }
  }
}

void CheckEnd(ServedModel& served, SoakReport* report) {
  // The router first: it warns of a world that is gone.
  const std::tuple<std::string, Process*, int> parts[] = {{"router", &served.router(), SIGTERM},
                                                          {"world", &served.world(), SIGUSR1}};
  for (const auto& [name, process, signal] : parts) {
    process->Signal(signal);
    const auto code = process->Wait(kDrain);
    if (code != 0) {
      report->faults.push_back(absl::StrCat(
          name, code.has_value() ? absl::StrCat(" ended with ", *code) : " did not end"));
    }
    CheckLog(name, process->Log(), report);
  }
  for (const pid_t pid : ProcessesNaming(served.model())) {
    report->faults.push_back(absl::StrCat("process ", pid, " is left"));
  }
}

}  // namespace

SoakReport RunSoak(const SoakOptions& options) {
  ServedModel served(kRanks, {"--slots", kSlots, "--max-queue", kMaxQueue, "--token-budget",
                              kTokenBudget, "--kv-memory", kKvMemory});
  SoakReport report;
  CheckLoad(served.Report().load(), &report);
  const std::vector<Question> questions = AskAlone(served);
  const std::vector<BadRequest> bad_requests = BadRequests(served);
  std::vector<Watched> watched = Watch(served);
  SoakTally tally;
  Load(served, questions, bad_requests, options, tally, watched);

  CheckLoad(served.WaitUntilEmpty().load(), &report);
  for (const std::string& fault : tally.faults()) report.faults.push_back(fault);
  const absl::Time deadline = absl::Now() + kGiveBack;
  for (const Watched& one : watched) {
    CheckMemory(one, options.most_growth_bytes, &report);
    CheckGivenBack(one, deadline, &report);
  }
  int64_t total = 0;
  const std::map<std::string, SoakTally::Outcome> outcomes = tally.outcomes();
  for (const auto& [name, outcome] : outcomes) {
    absl::StrAppend(&report.numbers, "  ", name, ": ", outcome.count, ", at most ",
                    absl::FormatDuration(absl::Trunc(outcome.longest, absl::Milliseconds(1))),
                    "\n");
    total += outcome.count;
  }
  report.numbers = absl::StrCat(total, " requests in ", absl::FormatDuration(options.duration),
                                ", seed ", options.seed, "\n", report.numbers);
  for (const char* must : {"whole ended", "bad was refused", "burst met a full queue"}) {
    if (!outcomes.contains(must)) {
      report.faults.push_back(absl::StrCat("the load was too small: nothing ", must));
    }
  }
  CheckEnd(served, &report);
  return report;
}

}  // namespace deltaserve::test
