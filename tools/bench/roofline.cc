#include "tools/bench/roofline.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace deltaserve::bench {
namespace {

constexpr double kWidth = 460, kHeight = 320, kLeft = 70, kTop = 40, kList = 330, kLine = 15;

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

// A logarithmic axis over whole decades.
struct Axis {
  double least = 0, most = 0;  // decades
  double begin = 0, end = 0;   // on the page

  double At(double value) const {
    const double decade = std::clamp(std::log10(value), least, most);
    return begin + (end - begin) * (decade - least) / (most - least);
  }
};

struct Page {
  Axis x, y;
  std::string svg = {};

  void Text(double left, double top, const char* anchor, const std::string& text) {
    absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", left,
                          top, anchor, Escaped(text));
  }
  // From (x, y) to (to_x, to_y), both of the axes.
  void Roof(double x0, double y0, double x1, double y1, const char* style) {
    absl::StrAppendFormat(&svg, "<path d=\"M%.1f %.1fL%.1f %.1f\" fill=\"none\" %s/>\n", x.At(x0),
                          y.At(y0), x.At(x1), y.At(y1), style);
  }
};

void AddGrid(Page& page) {
  constexpr char kGrid[] = "stroke=\"#dddddd\"";
  const auto [least_x, most_x, left, right] = page.x;
  const auto [least_y, most_y, bottom, top] = page.y;
  for (int i = static_cast<int>(least_x); i <= static_cast<int>(most_x); ++i) {
    const double value = std::pow(10, i);
    page.Roof(value, std::pow(10, least_y), value, std::pow(10, most_y), kGrid);
    page.Text(page.x.At(value), bottom + 18, "middle", absl::StrFormat("%g", value));
  }
  for (int i = static_cast<int>(least_y); i <= static_cast<int>(most_y); ++i) {
    const double value = std::pow(10, i);
    page.Roof(std::pow(10, least_x), value, std::pow(10, most_x), value, kGrid);
    page.Text(left - 6, page.y.At(value) + 4, "end", absl::StrFormat("%g", value / 1e9));
  }
  page.Text((left + right) / 2, bottom + 36, "middle", "FLOPs a byte");
  page.Text(left - 50, top - 10, "start", "GFLOP/s");
}

// Bandwidth up to where it meets `rate`, then `rate`.
void AddRoof(
    Page& page, double bandwidth, double rate, const std::string& name, const char* style) {
  const double least_x = std::pow(10, page.x.least), most_x = std::pow(10, page.x.most);
  const double ridge = std::clamp(rate / bandwidth, least_x, most_x);
  const double start = std::max(least_x, std::pow(10, page.y.least) / bandwidth);
  page.Roof(start, start * bandwidth, ridge, ridge * bandwidth, style);
  page.Roof(ridge, rate, most_x, rate, style);
  page.Text(page.x.end, page.y.At(rate) - 4, "end", name);
}

}  // namespace

std::string RooflineSvg(const std::string& title,
                        const Limits& limits,
                        const std::vector<Measurement>& all) {
  std::vector<const Measurement*> points;
  double least_x = 1, most_x = 100, least_y = 1e10;
  double most_y = std::max({limits.fma_flops, limits.int8_operations, 1e11});
  for (const Measurement& m : all) {
    if (m.cost.bytes <= 0 || m.cost.flops <= 0) continue;
    points.push_back(&m);
    const double x = m.cost.flops / m.cost.bytes, y = m.cost.flops / m.median();
    least_x = std::min(least_x, x);
    most_x = std::max(most_x, x);
    least_y = std::min(least_y, y);
    most_y = std::max(most_y, y);
  }
  Page page{
      .x = {std::floor(std::log10(least_x)), std::ceil(std::log10(most_x)), kLeft, kLeft + kWidth},
      .y = {std::floor(std::log10(least_y)), std::ceil(std::log10(most_y)), kTop + kHeight, kTop}};
  const double height =
      kTop + std::max(kHeight + 50, kLine * static_cast<double>(points.size() + 1));
  page.svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kLeft + kWidth + kList, height);
  page.Text(kLeft + kWidth / 2, 18, "middle", title);
  AddGrid(page);
  if (limits.read_bytes > 0) {
    AddRoof(page, limits.read_bytes, limits.fma_flops,
            absl::StrFormat("f32 %.0f GFLOP/s, reads %.1f GB/s", limits.fma_flops / 1e9,
                            limits.read_bytes / 1e9),
            "stroke=\"#b2182b\" stroke-width=\"2\"");
    AddRoof(page, limits.read_bytes, limits.int8_operations,
            absl::StrFormat("int8 %.0f GOP/s", limits.int8_operations / 1e9),
            "stroke=\"#f4a582\" stroke-dasharray=\"4 3\"");
  }
  for (size_t i = 0; i < points.size(); ++i) {
    const Measurement& m = *points[i];
    const double x = page.x.At(m.cost.flops / m.cost.bytes);
    const double y = page.y.At(m.cost.flops / m.median());
    absl::StrAppendFormat(&page.svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"#2166ac\"/>\n",
                          x, y);
    page.Text(x + 4, y - 4, "start", absl::StrCat(i + 1));
    page.Text(kLeft + kWidth + 16, kTop + kLine * static_cast<double>(i + 1), "start",
              absl::StrFormat("%d  %s: %.0f %% of limit", i + 1, m.what, 100 * m.share_of_limit()));
  }
  return page.svg + "</svg>\n";
}

}  // namespace deltaserve::bench
