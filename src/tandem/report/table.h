// Tables for the terminal: aligned columns of plain text. Not synchronised.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tandem {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::right;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell a column, no more and no less.
  void add_row(std::vector<std::string> cells);

  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<std::vector<std::string>>& rows() const { return rows_; }

  // Titles, a rule, rows; two spaces between columns, no trailing spaces, a line feed at the end.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tandem
