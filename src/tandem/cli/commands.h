// The subcommands of the program, one file each. Each adds itself to the command line and runs when
// chosen; mistakes of the user's come out as InputError.
#pragma once

#include <CLI/CLI.hpp>

namespace tandem::cli {

struct Session;

// Thrown by a command that has said why already.
struct ExitStatus {
  int value;
};

void add_train(CLI::App& app, Session& session);
void add_evaluate(CLI::App& app, Session& session);
void add_generate(CLI::App& app, Session& session);
void add_serve(CLI::App& app, Session& session);
void add_load(CLI::App& app);
void add_compare(CLI::App& app, Session& session);
void add_launch(CLI::App& app, Session& session);
void add_join(CLI::App& app);
void add_inspect(CLI::App& app);
void add_convert(CLI::App& app);
void add_bench(CLI::App& app);
void add_simulate(CLI::App& app);
void add_place(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_sweep(CLI::App& app);
void add_plan(CLI::App& app);
void add_reproduce(CLI::App& app);

}  // namespace tandem::cli
