#include <cstdio>
#include <exception>
#include <string>

#include "tandem/base/error.h"
#include "tandem/cli/commands.h"

// Exit status: 0, 1 where the world failed (a full disk, a lost rank), 2 for a mistake of the
// user's.
int main(int argc, char** argv) {
  CLI::App app{
      "Tandem runs mixture-of-experts transformers with attention and experts on separate groups "
      "of "
      "ranks that keep one pace."};
  app.set_version_flag("--version", "tandem 0.1.0");
  app.require_subcommand(1);
  app.fallthrough(false);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("tandem: ") + error.what() + " (--help tells more)\n";
  });
  using namespace tandem::cli;
  add_train(app);
  add_evaluate(app);
  add_generate(app);
  add_compare(app);
  add_inspect(app);
  add_bench(app);
  add_plan(app);
  add_simulate(app);
  add_sweep(app);
  add_place(app);
  add_calibrate(app);
  add_reproduce(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const tandem::InputError& error) {
    std::fprintf(stderr, "tandem: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tandem: %s\n", error.what());
    return 1;
  }
  return 0;
}
