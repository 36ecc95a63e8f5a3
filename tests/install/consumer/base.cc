#include "tandem/base/interval.h"

int main() { return tandem::part(32, 12, 0).empty() ? 1 : 0; }
