#include "tandem/cli/program.h"

#include <algorithm>
#include <cstdio>
#include <exception>

#include "tandem/base/build_name.h"
#include "tandem/base/error.h"
#include "tandem/cli/commands.h"

namespace tandem::cli {
namespace {

void add_commands(CLI::App& app, Session& session) {
  add_train(app, session);
  add_evaluate(app, session);
  add_generate(app, session);
  add_serve(app, session);
  add_load(app);
  add_compare(app, session);
  add_launch(app, session);
  add_join(app);
  add_inspect(app);
  add_convert(app);
  add_bench(app);
  add_plan(app);
  add_simulate(app);
  add_sweep(app);
  add_place(app);
  add_calibrate(app);
  add_reproduce(app);
}

}  // namespace

int run_program(const std::vector<std::string>& words, Session& session) {
  CLI::App app{
      "Tandem runs mixture-of-experts transformers with attention and experts on separate groups "
      "of ranks that keep one pace.",
      "tandem"};
  app.set_version_flag("--version", std::string(build_name()));
  app.require_subcommand(1);
  app.fallthrough(false);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("tandem: ") + error.what() + " (--help tells more)\n";
  });
  add_commands(app, session);
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // the first comes last
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const ExitStatus& status) {
    return status.value;
  } catch (const InputError& error) {
    std::fprintf(stderr, "tandem: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tandem: %s\n", error.what());
    return 1;
  }
  return 0;
}

}  // namespace tandem::cli
