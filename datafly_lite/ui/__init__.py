"""The pages: server-rendered, plain forms and links. One file a page family; templates are in web/."""
