"""Models, one file a family. A model knows its spec and its task, and neither the data's files nor the tracker."""
