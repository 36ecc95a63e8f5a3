#include "tandem/cli/program.h"

int main(int argc, char** argv) {
  tandem::cli::Session session;
  return tandem::cli::run_program({argv + 1, argv + argc}, session);
}
