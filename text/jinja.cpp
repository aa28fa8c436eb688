#include "text/jinja.h"

#include "text/jinja_machine.h"
#include "text/jinja_syntax.h"

namespace drystone::text::jinja {

struct Template::Impl {
  Block block;
};

Template::Template(std::string_view source)
    : impl_(std::make_unique<const Impl>(Impl{parse(source)})) {}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

Rendered Template::render(const Dict& variables, std::time_t now) const {
  Machine machine(variables, now);
  machine.run(impl_->block);
  return {machine.output(), machine.generations()};
}

}  // namespace drystone::text::jinja
