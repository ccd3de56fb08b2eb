#pragma once

#include <google/protobuf/repeated_field.h>

#include <cstddef>
#include <functional>
#include <iterator>
#include <utility>

namespace taskey {

/// The items of all pages of a list, as an input range. Each page is requested when it is reached.
template <class Request, class Response, class Item>
class Pages {
 public:
  using Items = const google::protobuf::RepeatedPtrField<Item>& (Response::*)() const;
  using Read = std::function<void(const Request&, Response*)>;

  class Iterator {
   public:
    using value_type = Item;
    using difference_type = std::ptrdiff_t;

    explicit Iterator(Pages* pages) : pages_(pages) { SkipEmptyPages(); }
    const Item& operator*() const { return pages_->items().Get(index_); }
    const Item* operator->() const { return &**this; }
    Iterator& operator++() {
      ++index_;
      SkipEmptyPages();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return pages_ == nullptr; }

   private:
    void SkipEmptyPages() {
      while (pages_ != nullptr && index_ == pages_->items().size()) {
        index_ = 0;
        pages_ = pages_->ReadNext() ? pages_ : nullptr;
      }
    }

    Pages* pages_;
    int index_ = 0;
  };

  Pages(Read read, Request request, Items items)
      : read_(std::move(read)), request_(std::move(request)), items_(items) {}

  /// Reads the first page. Call it once.
  Iterator begin() { return Iterator(this); }
  std::default_sentinel_t end() const { return {}; }

 private:
  const google::protobuf::RepeatedPtrField<Item>& items() const { return (page_.*items_)(); }
  bool ReadNext() {
    if (!has_next_) {
      return false;
    }
    page_.Clear();
    read_(request_, &page_);
    has_next_ = !page_.next_page_token().empty();
    request_.set_page_token(page_.next_page_token());
    return true;
  }

  Read read_;
  Request request_;
  Items items_;
  bool has_next_ = true;
  Response page_;
};

}  // namespace taskey
