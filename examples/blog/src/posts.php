<?php
/** The posts in the database. */
final class Posts
{
    private PDO $database;

    public function __construct()
    {
        $this->database = new PDO(
            'mysql:host=' . getenv('DB_HOST') . ';dbname=' . getenv('DB_NAME') . ';charset=utf8mb4',
            getenv('DB_USER'),
            trim(file_get_contents(getenv('DB_PASSWORD_FILE'))),
        );
        $this->database->exec(
            'CREATE TABLE IF NOT EXISTS post (id INT AUTO_INCREMENT PRIMARY KEY, title TEXT NOT NULL, text TEXT NOT NULL)'
        );
    }

    public function add(string $title, string $text): void
    {
        $this->database->prepare('INSERT INTO post (title, text) VALUES (?, ?)')->execute([$title, $text]);
    }

    public function all(): array
    {
        return $this->database->query('SELECT title, text FROM post ORDER BY id DESC')->fetchAll(PDO::FETCH_ASSOC);
    }
}
