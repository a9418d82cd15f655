create index reviews_by_article on reviews (sku, written);
