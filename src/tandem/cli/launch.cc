#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "tandem/base/error.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/program.h"
#include "tandem/comm/socket_address.h"
#include "tandem/world/cluster/process_starter.h"
#include "tandem/world/cluster/rank_process.h"

namespace tandem::cli {
namespace {

struct LaunchOptions {
  int processes = 0;
  std::string hosts, remote_shell = "ssh", listen = "127.0.0.1:0", program;
  double join_seconds = 60;
  std::vector<std::string> command;
};

struct JoinOptions {
  std::string address;
  int process = 0;
};

// Number and size as mpirun and srun tell them to the processes they start; size 0: neither did.
struct Started {
  int number = 0, size = 0;
};

Started started_by_others() {
  constexpr std::array<std::array<const char*, 2>, 3> names = {
      {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
       {"PMI_RANK", "PMI_SIZE"},
       {"SLURM_PROCID", "SLURM_NTASKS"}}};
  for (const auto& [number, size] : names)
    if (std::getenv(number) && std::getenv(size))
      return {std::atoi(std::getenv(number)), std::atoi(std::getenv(size))};
  return {};
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// Lines HOST or HOST slots=N; # begins a comment.
std::vector<ProcessPlace> read_hosts(const LaunchOptions& o) {
  std::ifstream file(o.hosts);
  if (!file) throw InputError("--hosts {}: cannot be read", o.hosts);
  std::vector<ProcessPlace> places;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::vector<std::string> words = words_of(line.substr(0, line.find('#')));
    if (words.empty()) continue;
    int slots = 1;
    if (words.size() > 2 || (words.size() == 2 && (!words[1].starts_with("slots=") ||
                                                   (slots = std::atoi(&words[1][6])) < 1)))
      throw InputError("{}:{}: expected HOST or HOST slots=N", o.hosts, number);
    ProcessPlace place{.prefix = words_of(o.remote_shell)};
    place.prefix.push_back(words[0]);
    places.insert(places.end(), slots, place);
  }
  return places;
}

std::vector<ProcessPlace> places_of(const LaunchOptions& o, const Started& started) {
  if (started.size > 0) {
    std::vector<ProcessPlace> places(static_cast<size_t>(started.size));
    for (int process = 1; process < started.size; ++process) places[process].outside = true;
    return places;
  }
  if (o.hosts.empty()) {
    if (o.processes < 1) throw InputError("-n {}: must be at least 1", o.processes);
    return std::vector<ProcessPlace>(static_cast<size_t>(o.processes));
  }
  std::vector<ProcessPlace> places = read_hosts(o);
  if (o.processes > std::ssize(places))
    throw InputError("-n {}: {} has slots for {}", o.processes, o.hosts, places.size());
  if (o.processes > 0) places.resize(static_cast<size_t>(o.processes));
  if (places.empty()) throw InputError("--hosts {}: names no host", o.hosts);
  return places;
}

std::string secret_of_environment() {
  const char* secret = std::getenv("TANDEM_SECRET");
  return secret ? secret : "";
}

void run(const LaunchOptions& o, Session& session) {
  if (session.fleet) throw InputError("launch within launch");
  const Started started = started_by_others();
  const auto [host, port] = split_address(o.listen);
  const std::string secret = secret_of_environment();
  if (started.size > 0 && secret.empty())
    throw InputError("under mpirun or srun every process needs the same TANDEM_SECRET");
  if (started.number > 0) {
    if (port == 0) throw InputError("under mpirun or srun --listen HOST:PORT has to name a port");
    return run_rank_process(o.listen, started.number, secret);
  }
  const std::string program =
      o.program.empty() ? std::filesystem::read_symlink("/proc/self/exe").string() : o.program;
  const std::vector<ProcessPlace> places = places_of(o, started);
  Fleet fleet({.processes = static_cast<int>(places.size()),
               .host = host,
               .port = port,
               .secret = secret,
               .join_seconds = o.join_seconds},
              std::make_unique<ProcessStarter>(program, places));
  Session inner{.fleet = &fleet};
  if (const int status = run_program(o.command, inner)) throw ExitStatus{status};
}

}  // namespace

void add_launch(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "launch",
      "Run a command with its ranks in processes of their own, here or on other machines");
  const auto o = std::make_shared<LaunchOptions>();
  command->add_option(
      "-n", o->processes,
      "Processes; ranks are dealt to them in order, those left over wait to stand in "
      "for a lost one");
  command->add_option("--hosts", o->hosts, "File with lines HOST or HOST slots=N");
  command
      ->add_option("--remote-shell", o->remote_shell,
                   "Starts a program on a host: SHELL HOST PROGRAM ...")
      ->capture_default_str();
  command->add_option("--program", o->program, "Path of tandem there (default: as here)");
  command
      ->add_option("--listen", o->listen,
                   "HOST:PORT of this machine where the others find it; port 0: any")
      ->capture_default_str();
  command->add_option("--join-seconds", o->join_seconds, "How long to wait for all of them")
      ->capture_default_str();
  command->add_option("command", o->command, "The command: -- generate ...")->required();
  command->footer(
      "Under mpirun or srun, each process runs the same line: the first leads, --listen names its "
      "address, and TANDEM_SECRET in the environment lets the others in.");
  command->callback([o, &session] { run(*o, session); });
}

void add_join(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "join", "Be a process of a run that `launch` leads; the secret comes on standard input");
  const auto o = std::make_shared<JoinOptions>();
  command->add_option("--address", o->address, "HOST:PORT of the process that leads")->required();
  command->add_option("--process", o->process, "Number of this process")->required();
  command->callback([o] {
    std::string secret = secret_of_environment();
    if (secret.empty()) std::getline(std::cin, secret);
    run_rank_process(o->address, o->process, secret);
  });
}

}  // namespace tandem::cli
