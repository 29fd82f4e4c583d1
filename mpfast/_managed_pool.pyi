# Private, and made of classes that only the running version knows.
