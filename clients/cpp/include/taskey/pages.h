#pragma once

#include <google/protobuf/message.h>
#include <google/protobuf/repeated_field.h>

#include <iterator>
#include <memory>
#include <utility>

namespace taskey {

class Client;

/// Reads the pages of a list one after the other.
class PageReader {
 public:
  PageReader(Client& client, const google::protobuf::Message& request);

  /// Reads the next page. Returns false if there is none.
  bool Next(google::protobuf::Message* response);

 private:
  Client* client_;
  std::unique_ptr<google::protobuf::Message> request_;
  bool has_next_ = true;
};

/// The items of all pages of a list, as an input range.
template <class Response, class Item>
class Pages {
 public:
  using Items = const google::protobuf::RepeatedPtrField<Item>& (Response::*)() const;

  class Iterator {
   public:
    using value_type = Item;
    using difference_type = std::ptrdiff_t;

    explicit Iterator(Pages* pages) : pages_(pages) { SkipEmptyPages(); }
    const Item& operator*() const { return (pages_->page_.*pages_->items_)().Get(index_); }
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
      while (index_ >= (pages_->page_.*pages_->items_)().size()) {
        index_ = 0;
        if (!pages_->reader_.Next(&pages_->page_)) {
          pages_ = nullptr;
          return;
        }
      }
    }

    Pages* pages_;
    int index_ = 0;
  };

  Pages(PageReader reader, Items items) : reader_(std::move(reader)), items_(items) {}

  /// Reads the first page. Call it once.
  Iterator begin() { return Iterator(this); }
  std::default_sentinel_t end() const { return {}; }

 private:
  PageReader reader_;
  Items items_;
  Response page_;
};

}  // namespace taskey
