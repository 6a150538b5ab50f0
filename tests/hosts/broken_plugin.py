raise ZeroDivisionError("on import")
