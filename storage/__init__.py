"""Tables, and one module per record that reads and writes it. SQLAlchemy Core, no ORM."""
