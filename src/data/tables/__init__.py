"""Tables: csv, parquet, arrays."""
